-- Sends prepared requests one after the other. init(FILE, CONTENT_TYPE[, PREFER]): FILE holds the ends of requests, each
-- behind its length and that of its body: from what follows `Content-Length: 123`.

local text, head, place_in_text, first = nil, nil, 1, 1
local requests, at, are_all, threads = {}, 0, false, 0

function setup(thread)
    thread:set("place", threads)
    threads = threads + 1
end

-- The first thread is at work while the second is made, and that time is in no figure: so it only reads the file here.
function init(args)
    local file = assert(io.open(args[1], "rb"))
    text = file:read("*a")
    file:close()
    local prefer = args[3] and "Prefer: " .. args[3] .. "\r\n" or ""
    local format = "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\n%sContent-Length: "
    head = string.format(format, wrk.path, wrk.headers["Host"], args[2], prefer)
    -- Threads begin far from each other, so that they do not meet on one key.
    if place > 0 then
        first = text:find("\n%d+ %d+\n", math.floor(#text * place / 2)) + 1
        place_in_text = first
    end
end

local function make_next()
    local line_end = text:find("\n", place_in_text, true)
    local bytes, size = text:match("^(%d+) (%d+)\n", place_in_text)
    requests[#requests + 1] = head .. size .. text:sub(line_end + 1, line_end + bytes)
    place_in_text = line_end + bytes + 2
    if place_in_text > #text then
        place_in_text = 1
    end
    are_all = place_in_text == first
    return requests[#requests]
end

function request()
    if not are_all then
        return make_next()
    end
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("measured %d %d %d %d\n", summary.requests, summary.duration, failed, latency:percentile(50)))
end
