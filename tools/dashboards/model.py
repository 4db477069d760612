"""How each model version does: what it predicts, whether its inputs are those of its training, how far it is off."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.parts import (
    GREEN,
    RED,
    WIDTH,
    YELLOW,
    Column,
    Panel,
    Query,
    assembled,
    choice,
    compared,
    graph,
    listed,
)

# The usual marks of a population stability index: below 0.1 nothing happened, above 0.25 much did.
PSI = ((None, GREEN), (0.1, YELLOW), (0.25, RED))
NO_FEEDBACK = "no feedback arrived"
NO_REGRESSION, NO_CLASSIFICATION = "no feedback, or no regression", "no feedback, or no classification"
UNWATCHED, NO_CATEGORIES = "drift is turned off", "drift is turned off, or no feature has categories"


def dashboard() -> Dashboard:
    """Return it."""
    return assembled(
        "bakehouse-model",
        "Bakehouse: model",
        "What does each model version predict, and does it still fit the world.",
        {
            "Versions": _versions(),
            "Predictions": _predictions(),
            "Features": _features(),
            "Feedback": _feedback(),
        },
        more=[
            choice(
                "feature",
                "label_values(bakehouse_feature_importance{OF_VERSION}, feature)",
                "The feature whose distribution is shown.",
            )
        ],
        since="now-24h",
    )


def _versions() -> list[Panel]:
    return [
        listed(
            "Models",
            "What is served now: the engine that answers, and whether its answers are the estimator's bit for bit.",
            "digest",
            [Column("pods", "count by (name, version, digest, engine, exact) (bakehouse_model_info{OF_VERSION})")],
            sort="pods",
            width=WIDTH // 2,
        ),
        graph(
            "Pods by version",
            "How many pods serve which version: a rollout is where one takes over from the other.",
            units.Short,
            Query("count by (version) (bakehouse_model_info{OF_VERSION})", "{{version}}"),
            width=WIDTH // 2,
            stacked=True,
        ),
    ]


def _predictions() -> list[Panel]:
    return [
        graph(
            "Rows predicted",
            "Rows predicted a second by each version.",
            units.RowsPerSecond,
            Query(
                "sum by (version) (rate(bakehouse_predicted_rows_total{OF_VERSION}[$__rate_interval]))", "{{version}}"
            ),
        ),
        graph(
            "Refused rows and bodies",
            "Prediction requests refused a second, by the code of their first problem.",
            units.RequestsPerSecond,
            Query("sum by (code) (rate(bakehouse_prediction_errors_total{OF_VERSION}[$__rate_interval]))", "{{code}}"),
            empty="no request was refused",
        ),
        graph(
            "Drift of the predictions",
            "How far the predictions are from those on the training rows: population stability index, and"
            " Jensen-Shannon distance (0 to 1). Of few rows, as after a rollout, they are noise.",
            units.NoUnit,
            Query("max by (version) (bakehouse:prediction_drift_psi{OF_VERSION})", "PSI {{version}}"),
            Query("max by (version) (bakehouse:prediction_drift_js_distance{OF_VERSION})", "JS {{version}}"),
            marks=PSI,
            empty=UNWATCHED,
        ),
        _distribution(
            "Predictions now and in training",
            "Share of the predictions in each bin, in the time shown and in training. While two versions are served,"
            " choose one.",
            "bakehouse_prediction",
            "OF_VERSION",
            width=WIDTH,
        ),
    ]


def _features() -> list[Panel]:
    def worst(what: str, title: str, description: str, empty: str = UNWATCHED) -> Panel:
        return graph(
            title,
            description,
            units.PercentUnit,
            Query(f"topk(5, max by (feature) (bakehouse:feature_{what}_ratio{{OF_VERSION}}))", "{{feature}}"),
            empty=empty,
        )

    return [
        listed(
            "Drift by feature",
            "Each watched feature now: its importance in training, how far it drifted, and shares of values that are"
            " missing, outside of the range of training, or a category that training never saw.",
            "feature",
            [
                Column("importance", "max by (feature) (bakehouse_feature_importance{OF_VERSION})", decimals=3),
                Column("PSI", "max by (feature) (bakehouse:feature_drift_psi{OF_VERSION})", decimals=3),
                Column("JS distance", "max by (feature) (bakehouse:feature_drift_js_distance{OF_VERSION})", decimals=3),
                *(
                    Column(what, f"max by (feature) (bakehouse:feature_{what}_ratio{{OF_VERSION}})", units.PercentUnit)
                    for what in ("missing", "outside", "unknown")
                ),
            ],
            sort="PSI",
            width=WIDTH // 2,
            empty=UNWATCHED,
        ),
        graph(
            "Drift of features",
            "Population stability index of the ten features that drifted most.",
            units.NoUnit,
            Query(
                "topk(10, max by (version, feature) (bakehouse:feature_drift_psi{OF_VERSION}))",
                "{{feature}} {{version}}",
            ),
            width=WIDTH // 2,
            marks=PSI,
            empty=UNWATCHED,
        ),
        _distribution(
            "$feature now and in training",
            "Share of the values in each bin, in the time shown and in training. While two versions are served,"
            " choose one.",
            "bakehouse_feature",
            'OF_VERSION, feature="$feature"',
            width=WIDTH,
        ),
        worst("missing", "Missing values", "Share of rows in which a feature is missing; the worst five features."),
        worst(
            "outside",
            "Outside of the training's range",
            "Share of rows in which a feature is below or above all training rows; the worst five features.",
        ),
        worst(
            "unknown",
            "Unknown categories",
            "Share of rows in which a feature is a category that training never saw; the worst five features.",
            NO_CATEGORIES,
        ),
    ]


def _feedback() -> list[Panel]:
    def quality(title: str, description: str, unit: str, name: str, score: str, empty: str) -> Panel:
        return graph(
            title,
            description,
            unit,
            Query(f"max by (version) (bakehouse:feedback_{name}{{OF_VERSION}})", "feedback {{version}}"),
            Query(score, "held out {{version}}"),
            empty=empty,
        )

    return [
        quality(
            "Mean absolute error",
            "Mean distance of predictions from the true values that came back, in the target's unit, beside that on the"
            " rows held out of training.",
            units.NoUnit,
            "mean_absolute_error",
            '-max by (version) (bakehouse_model_score{OF_VERSION, score="neg_mean_absolute_error"})',
            NO_REGRESSION,
        ),
        graph(
            "Bias",
            "Mean of prediction minus true value, in the target's unit: above 0 the model says too much.",
            units.NoUnit,
            Query("max by (version) (bakehouse:feedback_bias{OF_VERSION})", "{{version}}"),
            signed=True,
            empty=NO_REGRESSION,
        ),
        graph(
            "Feedback",
            "Rows with a true value that arrived a second: accepted, repeated, or of a prediction not remembered.",
            units.RowsPerSecond,
            Query("sum by (result) (rate(bakehouse_feedback_rows_total{OF_VERSION}[$__rate_interval]))", "{{result}}"),
            empty=NO_FEEDBACK,
        ),
        quality(
            "Accuracy",
            "Share of predictions that were right, beside that on the rows held out of training.",
            units.PercentUnit,
            "accuracy",
            'max by (version) (bakehouse_model_score{OF_VERSION, score="accuracy"})',
            NO_CLASSIFICATION,
        ),
        graph(
            "Log loss and Brier score",
            "How far the probabilities were from what happened; less is better.",
            units.NoUnit,
            Query("max by (version) (bakehouse:feedback_log_loss{OF_VERSION})", "log loss {{version}}"),
            Query("max by (version) (bakehouse:feedback_brier{OF_VERSION})", "Brier {{version}}"),
            empty=NO_CLASSIFICATION,
        ),
        graph(
            "Rows that these numbers are from",
            "Rows with a true value in the window of the rules; of few rows, the numbers beside are noise.",
            units.Short,
            Query("max by (version) (bakehouse:feedback_rows{OF_VERSION})", "{{version}}"),
            empty=NO_FEEDBACK,
        ),
    ]


def _distribution(title: str, description: str, metric: str, matchers: str, *, width: int) -> Panel:
    """Return bars of the bins of a metric's rows and of its reference."""
    # Every pod says the same of its version's training; of versions that no pod serves any more, no row counts.
    reference = f"max by (version, bin) ({metric}_reference_ratio{{{matchers}}})"
    rows = f"(sum by (version, bin) (increase({metric}_rows_total{{{matchers}}}[$__range])) and {reference})"
    return compared(
        title,
        description,
        units.PercentUnit,
        "bin",
        [
            Column("now", f"sum by (bin) ({rows}) / scalar(sum({rows}) > 0)"),
            Column("training", f"sum by (bin) ({reference}) / scalar(count(count by (version) ({reference})))"),
        ],
        width=width,
        empty=UNWATCHED,
    )
