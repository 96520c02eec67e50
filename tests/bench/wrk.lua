-- Sends prepared requests one after the other. init(FILE, CONTENT_TYPE): FILE holds bodies, each behind its length.

local requests, at, threads = {}, 0, 0

function setup(thread)
    thread:set("place", threads)
    threads = threads + 1
end

function init(args)
    local file = assert(io.open(args[1], "rb"))
    local headers = { ["Content-Type"] = args[2] }
    local size = file:read("*n")
    while size do
        file:read(1)
        requests[#requests + 1] = wrk.format("POST", nil, headers, file:read(size))
        size = file:read("*n")
    end
    file:close()
    -- Threads begin far from each other, so that they do not meet on one key.
    at = place * 4999 % #requests
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("measured %d %d %d %d\n", summary.requests, summary.duration, failed, latency:percentile(50)))
end
