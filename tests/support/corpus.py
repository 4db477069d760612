"""Bodies for POST /predict that are wrong, or look wrong and are not, each with the answer it gets.

Whatever a body says that its answer could repeat holds CANARY; neither an answer nor a log may hold it.
"""

import gzip
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

CANARY = "7331373313"  # digits, so that it fits into numbers and words alike
LONE = r"\ud800"  # the escape of half a surrogate pair
LIMIT = 300_000  # above the deepest nesting below, whose refusal is not to be one of length
MAX_ROWS = 100
SETTINGS = {"BAKEHOUSE_MAX_BODY_BYTES": str(LIMIT), "BAKEHOUSE_MAX_ROWS": str(MAX_ROWS)}

GOOD = b'{"X": [[1500, 3]]}'
PENGUIN = ("Torgersen", 39.1, 18.7, 181, 3750, "male")
JSON = {"Content-Type": "application/json"}
GZIP = {**JSON, "Content-Encoding": "gzip"}

# Python 3.13 and later read a few thousand levels, and find that they are no rows.
DEEP = (400, "invalid_json") if sys.version_info < (3, 13) else (422, "not_an_object")


@dataclass(frozen=True)
class Case:
    """One body and its answer.

    Args:
        name: What is particular about the body.
        body: The bytes that are sent.
        status: The HTTP status of the answer.
        code: The code of the first fault that the answer names, else of the problem; empty for a prediction.
        headers: What the request says of its body.
        model: The shipped model that is asked.
    """

    name: str
    body: bytes
    status: int = 200
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    model: str = "house_prices"


def _rows(rows: str, more: str = "") -> bytes:
    return f'{{"X": {rows}{more}}}'.encode()


def _outputs(outputs: str) -> bytes:
    return _rows("[[1500, 3]]", f', "outputs": {outputs}')


def _penguin(column: int, cell: str) -> bytes:
    cells = [f'"{value}"' if isinstance(value, str) else str(value) for value in PENGUIN]
    cells[column] = cell
    return _rows(f"[[{', '.join(cells)}]]")


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _group(status: int, code: str, **bodies: bytes) -> list[Case]:
    return [Case(name, body, status, code) for name, body in bodies.items()]


def _sent_as(status: int, code: str, headers: Mapping[str, str], **bodies: bytes) -> list[Case]:
    return [Case(name, body, status, code, headers) for name, body in bodies.items()]


def _of_penguins(status: int, code: str, **bodies: bytes) -> list[Case]:
    return [Case(f"penguins_{name}", body, status, code, model="penguins") for name, body in bodies.items()]


ACCEPTED = [
    *_group(
        200,
        "",
        rows_as_lists=GOOD,
        rows_as_objects=_rows('[{"area": 1500, "age": 3}]'),
        objects_in_another_order=_rows('[{"age": 3, "area": 1500}]'),
        escaped_names=rb'{"\u0058": [{"\u0061rea": 1500, "age": 3}]}',
        whitespace_around=b" \r\n\t" + GOOD + b"\n",
        integer_2_to_the_53_plus_2=_rows(f"[[{2**53 + 2}, 3]]"),
        integer_2_to_the_60=_rows(f"[[{2**60}, 3]]"),
        integer_minus_2_to_the_60=_rows(f"[[{-(2**60)}, 3]]"),
        integer_2_to_the_70=_rows(f"[[{2**70}, 3]]"),
        minus_zero=_rows("[[-0, -0.0]]"),
        number_too_small_for_float64=_rows("[[1500, 1e-400]]"),
        outputs_null=_outputs("null"),
        outputs_named=_outputs('["predict"]'),
        as_many_rows_as_allowed=_rows(f"[{', '.join(['[1500, 3]'] * MAX_ROWS)}]"),
        as_many_bytes_as_allowed=GOOD + b" " * (LIMIT - len(GOOD)),
    ),
    *_sent_as(200, "", {}, no_content_type=GOOD),
    *_sent_as(200, "", {"Content-Type": "Application/JSON; charset=UTF-8"}, charset_utf_8=GOOD),
    *_sent_as(200, "", {**JSON, "Content-Encoding": "identity"}, coding_identity=GOOD),
    *_sent_as(200, "", {**JSON, "Content-Encoding": "X-GZip"}, coding_x_gzip=gzip.compress(GOOD)),
    *_sent_as(
        200,
        "",
        GZIP,
        gzip_good=gzip.compress(GOOD),
        gzip_of_several_members=gzip.compress(GOOD[:7]) + gzip.compress(b"") + gzip.compress(GOOD[7:]),
        gzip_to_exactly_the_limit=gzip.compress(GOOD + b" " * (LIMIT - len(GOOD))),
    ),
    *_of_penguins(
        200,
        "",
        unknown_category=_penguin(0, f'"Canary {CANARY}"'),
        empty_category=_penguin(0, '""'),
        category_with_colons=_penguin(0, '"a:b::c"'),
        category_with_a_colon_and_an_accent=_penguin(0, '"\u00e9: b"'),
        category_beyond_the_basic_plane=_penguin(0, r'"\ud83d\udc27"'),
        null_number=_penguin(1, "null"),
        null_category=_penguin(5, "null"),
    ),
]

NO_JSON = [
    *_group(
        400,
        "duplicate_name",
        duplicate_x=_rows("[[1500, 3]]", f', "X": [[{CANARY}, 3]]'),
        duplicate_x_and_the_last_is_empty=_rows(f"[[{CANARY}, 3]]", ', "X": []'),
        duplicate_outputs=_rows("[[1500, 3]]", ', "outputs": ["predict"], "outputs": ["predict"]'),
        duplicate_feature=_rows(f'[{{"area": 1500, "age": 3, "age": {CANARY}}}]'),
        duplicate_feature_and_one_missing=_rows(f'[{{"area": 1500, "area": {CANARY}}}]'),
        duplicate_feature_in_a_later_row=_rows(f'[{{"area": 1, "age": 3}}, {{"area": 1, "age": 3, "age": {CANARY}}}]'),
        duplicate_feature_written_differently=_rows(rf'[{{"area": {CANARY}, "\u0061rea": 1500, "age": 3}}]'),
        duplicate_in_an_unknown_member=_rows("[[1500, 3]]", f', "{CANARY}": {{"a": 1, "a": 2}}'),
        duplicate_in_a_cell=_rows(f'[[{{"{CANARY}": 1, "{CANARY}": 2}}, 3]]'),
    ),
    *_group(
        400,
        "not_finite",
        nan=_rows(f"[[NaN, {CANARY}]]"),
        infinity=_rows(f"[[Infinity, {CANARY}]]"),
        minus_infinity=_rows(f"[[-Infinity, {CANARY}]]"),
        nan_in_an_object=_rows(f'[{{"area": NaN, "age": {CANARY}}}]'),
    ),
    *_group(
        400,
        "invalid_json",
        empty_body=b"",
        only_whitespace=b" \n",
        word=f"Canary{CANARY}".encode(),
        trailing_garbage=GOOD + f" Canary{CANARY}".encode(),
        two_documents=GOOD + GOOD,
        cut_off=_rows(f"[[{CANARY}, 3]]")[:-2],
        single_quotes=f"{{'X': [[{CANARY}, 3]]}}".encode(),
        trailing_comma=_rows(f"[[{CANARY}, 3],]"),
        comment=_rows(f"[[1500, 3]] /* {CANARY} */"),
        leading_zero=_rows(f"[[0{CANARY}, 3]]"),
        leading_plus=_rows(f"[[+{CANARY}, 3]]"),
        hexadecimal=_rows("[[0xfffe, 3]]"),
        control_character=_rows(f'[["{CANARY}\x01", 3]]'),
        form=f"X={CANARY}&age=3".encode(),
        utf_16=_rows(f"[[{CANARY}, 3]]").decode().encode("utf-16"),
        utf_16_without_mark=_rows(f"[[{CANARY}, 3]]").decode().encode("utf-16-le"),
        utf_32=_rows(f"[[{CANARY}, 3]]").decode().encode("utf-32"),
        byte_order_mark=b"\xef\xbb\xbf" + GOOD,
        latin_1=_rows(f'[["caf\u00e9 {CANARY}", 3]]').decode().encode("latin-1"),
        surrogate_as_bytes=b'{"X": [["\xed\xa0\x80", 3]]}',
        overlong_bytes=b'{"X": [["\xc0\xaf", 3]]}',
        nested_100_000_deep=_nested(100_000),
        nested_objects_40_000_deep=b'{"X":' * 40_000 + b"1" + b"}" * 40_000,
        gzip_without_saying_so=gzip.compress(GOOD),
    ),
    *_group(*DEEP, nested_2_000_deep=_nested(2_000)),
    *_sent_as(400, "invalid_json", GZIP, gzip_of_gzip=gzip.compress(gzip.compress(GOOD)), gzip_of_nothing=b""),
    *_sent_as(
        400,
        "invalid_gzip",
        GZIP,
        gzip_is_plain=GOOD,
        gzip_is_zlib=zlib.compress(GOOD),
        gzip_damaged=gzip.compress(GOOD)[:12] + b"\xff\xff" + gzip.compress(GOOD)[14:],
        gzip_with_a_wrong_checksum=gzip.compress(GOOD)[:-8] + bytes(8),
        gzip_cut_off=gzip.compress(GOOD)[:-9],
        gzip_cut_off_in_its_head=gzip.compress(GOOD)[:5],
        gzip_second_member_cut_off=gzip.compress(GOOD) + gzip.compress(b" ")[:-1],
        gzip_with_trailing_garbage=gzip.compress(GOOD) + CANARY.encode(),
    ),
]

TOO_LARGE = [
    *_group(
        413,
        "too_large",
        one_byte_too_many=GOOD + b" " * (LIMIT - len(GOOD) + 1),
        far_too_many_bytes=CANARY.encode() * LIMIT,
    ),
    *_group(413, "too_many_rows", one_row_too_many=_rows(f"[{', '.join([f'[{CANARY}, 3]'] * (MAX_ROWS + 1))}]")),
    *_sent_as(
        413,
        "too_large",
        GZIP,
        gzip_to_one_byte_too_many=gzip.compress(GOOD + b" " * (LIMIT - len(GOOD) + 1)),
        gzip_bomb=gzip.compress(bytes(100 * LIMIT)),
        gzip_bomb_in_members=gzip.compress(bytes(LIMIT // 2)) * 3,
    ),
]

UNSUPPORTED = [
    Case(name.replace(" ", "_"), body, 415, "unsupported_media_type", headers)
    for name, body, headers in (
        ("content type text", GOOD, {"Content-Type": "text/plain"}),
        ("content type text json", GOOD, {"Content-Type": "text/json"}),
        ("content type form", b"X=1500", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("content type multipart", GOOD, {"Content-Type": f"multipart/form-data; boundary={CANARY}"}),
        ("content type made up", GOOD, {"Content-Type": f"canary/{CANARY}"}),
        ("content type patch", GOOD, {"Content-Type": "application/json-patch+json"}),
        ("charset utf-16", GOOD.decode().encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"}),
        ("charset latin-1", GOOD, {"Content-Type": "application/json; charset=iso-8859-1"}),
        ("charset made up", GOOD, {"Content-Type": f"application/json; charset={CANARY}"}),
        ("coding br", GOOD, {**JSON, "Content-Encoding": "br"}),
        ("coding deflate", zlib.compress(GOOD), {**JSON, "Content-Encoding": "deflate"}),
        ("coding zstd", GOOD, {**JSON, "Content-Encoding": "zstd"}),
        ("coding made up", GOOD, {**JSON, "Content-Encoding": CANARY}),
        ("coding gzip twice", gzip.compress(gzip.compress(GOOD)), {**JSON, "Content-Encoding": "gzip, gzip"}),
    )
]

BREAKS_THE_CONTRACT = [
    *_group(
        422,
        "not_an_object",
        document_list=f"[[{CANARY}, 3]]".encode(),
        document_null=b"null",
        document_text=f'"{CANARY}"'.encode(),
        document_number=CANARY.encode(),
    ),
    *_group(
        422,
        "unknown_member",
        unknown_member=_rows("[[1500, 3]]", f', "Canary{CANARY}": 1'),
        unknown_member_only=f'{{"instances": [[{CANARY}, 3]]}}'.encode(),
        unknown_member_lone_surrogate=_rows("[[1500, 3]]", f', "{LONE}{CANARY}": 1'),
    ),
    *_group(
        422,
        "not_rows",
        x_missing=b"{}",
        x_null=_rows("null"),
        x_number=_rows(CANARY),
        x_text=_rows(f'"{CANARY}"'),
        x_object=_rows(f'{{"area": {CANARY}, "age": 3}}'),
    ),
    *_group(422, "empty", x_empty=_rows("[]")),
    *_group(
        422,
        "not_a_row",
        x_one_dimensional=_rows(f"[{CANARY}, 3]"),
        x_of_nulls=_rows("[null]"),
        x_of_booleans=_rows("[true, false]"),
        x_of_texts=_rows(f'["{CANARY}", "ab"]'),
        x_mixed_list_first=_rows(f'[[1500, 3], {{"area": {CANARY}, "age": 3}}]'),
        x_mixed_object_first=_rows(f'[{{"area": 1500, "age": 3}}, [{CANARY}, 3]]'),
        x_null_between_rows=_rows(f"[[{CANARY}, 3], null, [1500, 3]]"),
    ),
    *_group(
        422,
        "wrong_width",
        row_empty=_rows("[[]]"),
        row_short=_rows(f"[[{CANARY}]]"),
        row_long=_rows(f"[[1500, 3, {CANARY}]]"),
        rows_ragged=_rows(f"[[1500, 3], [{CANARY}]]"),
        row_three_dimensional=_rows(f"[[[{CANARY}, 3]]]"),
    ),
    *_group(
        422,
        "missing_feature",
        feature_missing=_rows(f'[{{"area": {CANARY}}}]'),
        feature_misspelt=_rows(f'[{{"area": 1500, "Canary{CANARY}": 3}}]'),
        feature_in_another_case=_rows(f'[{{"Area": {CANARY}, "age": 3}}]'),
        feature_lone_surrogate=_rows(f'[{{"area": {CANARY}, "{LONE}": 3}}]'),
        row_empty_object=_rows("[{}]"),
    ),
    *_group(422, "unknown_feature", feature_extra=_rows(f'[{{"area": 1500, "age": 3, "Canary{CANARY}": 1}}]')),
    *_group(
        422,
        "not_a_number",
        cell_true=_rows(f"[[true, {CANARY}]]"),
        cell_false_by_name=_rows(f'[{{"area": {CANARY}, "age": false}}]'),
        cell_numeric_text=_rows(f'[["{CANARY}", 3]]'),
        cell_text=_rows(f'[[1500, "Canary{CANARY}"]]'),
        cell_lone_surrogate=_rows(f'[["{LONE}{CANARY}", 3]]'),
        cell_list=_rows(f"[[[{CANARY}], 3]]"),
        cell_object=_rows(f'[[{{"Canary{CANARY}": 1}}, 3]]'),
    ),
    *_group(422, "missing_value", cell_null=_rows(f"[[null, {CANARY}]]")),
    *_group(
        422,
        "out_of_range",
        number_beyond_float64=_rows("[[1e999, 3]]"),
        number_below_float64=_rows("[[1500, -1e999]]"),
        integer_of_400_digits=_rows(f"[[{CANARY * 40}, 3]]"),
        integer_of_5_000_digits=_rows(f"[[{CANARY * 500}, 3]]"),
    ),
    *_group(
        422,
        "inexact_integer",
        integer_2_to_the_53_plus_1=_rows(f"[[{2**53 + 1}, 3]]"),
        integer_inexact=_rows(f"[[9{CANARY}000001, 3]]"),
        integer_inexact_negative=_rows(f'[{{"area": -9{CANARY}000001, "age": 3}}]'),
        integer_inexact_beyond_2_to_the_64=_rows(f"[[{CANARY}00000000000000000001, 3]]"),
        integer_inexact_of_300_digits=_rows(f"[[{CANARY * 30}, 3]]"),
    ),
    *_group(422, "no_finite_answer", answer_overflows=_rows("[[1e308, 3]]")),
    *_group(
        422,
        "unknown_output",
        output_unknown=_outputs(f'["Canary{CANARY}"]'),
        output_of_another_kind_of_model=_outputs('["predict_proba"]'),
        output_repeated=_outputs('["predict", "predict"]'),
        output_number=_outputs(f"[{CANARY}]"),
        output_object=_outputs(f'[{{"Canary{CANARY}": 1}}]'),
        output_lone_surrogate=_outputs(f'["{LONE}{CANARY}"]'),
    ),
    *_group(
        422,
        "not_outputs",
        outputs_empty=_outputs("[]"),
        outputs_text=_outputs('"predict"'),
        outputs_number=_outputs(CANARY),
        outputs_object=_outputs(f'{{"predict": {CANARY}}}'),
        outputs_false=_outputs("false"),
    ),
    *_of_penguins(422, "missing_value", null_not_allowed=_penguin(0, "null")),
    *_of_penguins(
        422,
        "not_a_string",
        number_for_text=_penguin(0, CANARY),
        boolean_for_text=_penguin(5, "true"),
        list_for_text=_penguin(5, f'["Canary{CANARY}"]'),
    ),
    *_of_penguins(
        422,
        "not_a_number",
        text_for_number=_penguin(1, f'"{CANARY}"'),
        boolean_for_number=_penguin(4, "true"),
    ),
    *_of_penguins(422, "not_text", lone_surrogate=_penguin(0, f'"{LONE}{CANARY}"')),
    *_of_penguins(400, "invalid_json", invalid_utf_8=_penguin(0, '"?"').replace(b"?", b"\xff")),
    Case(
        "digits_number_beyond_float32",
        _rows(f"[[{', '.join(['0'] * 63)}, 1e39]]"),
        422,
        "out_of_range",
        model="digits",
    ),
]

CASES = (*ACCEPTED, *NO_JSON, *TOO_LARGE, *UNSUPPORTED, *BREAKS_THE_CONTRACT)
