-- Sends one body without pause and compares every answer with the one expected; tells what came as JSON.
-- wrk ... URL -- FILE_OF_BODY FILE_OF_EXPECTED_ANSWER CONTENT_TYPE

local the_thread

local function contents(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read("*a")
   file:close()
   return text
end

function setup(thread)
   the_thread = thread -- there is one
end

function init(arguments)
   wrk.method = "POST"
   wrk.body = contents(arguments[1])
   expected = contents(arguments[2])
   wrk.headers["Content-Type"] = arguments[3]
   answered, refused, wrong, first_wrong = 0, 0, 0, ""
end

function response(status, headers, body)
   if status == 200 and body == expected then
      answered = answered + 1
   elseif status == 503 and headers["Retry-After"] then
      refused = refused + 1
   else
      if wrong == 0 then
         first_wrong = string.format("%d %s", status, body:sub(1, 300):gsub("[^%w %.,:{}_-]", "."))
      end
      wrong = wrong + 1
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"answered": %d, "refused": %d, "wrong": %d, "first_wrong": "%s", "socket_errors": %d, ' ..
      '"seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f}\n',
      the_thread:get("answered"), the_thread:get("refused"), the_thread:get("wrong"), the_thread:get("first_wrong"),
      errors.connect + errors.read + errors.write + errors.timeout,
      summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
