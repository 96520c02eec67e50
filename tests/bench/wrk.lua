-- Sends prepared requests one after the other. init(FILE, COUNT): FILE holds so many requests, each behind its length in eight
-- digits and before a line end.

-- More are not kept: to look through them again and again would cost Lua more than to copy each out of the file.
local MANY = 10000

local text, next_at, first_at = nil, 1, 1
local requests, at, are_kept, are_all, threads = {}, 0, true, false, 0

function setup(thread)
    thread:set("place", threads)
    threads = threads + 1
end

-- The first thread is at work while the second is made, and that time is in no figure: so it only reads the file here.
function init(args)
    local file = assert(io.open(args[1], "rb"))
    text = file:read("*a")
    file:close()
    are_kept = tonumber(args[2]) <= MANY
    -- What was sent goes soon: beside a large file Lua would keep about as much of it, and look through it for each request.
    collectgarbage("setpause", 101)
    -- Threads begin far from each other, so that they do not meet on one key.
    if place > 0 then
        first_at = text:find("\n%d%d%d%d%d%d%d%dPOST ", math.floor(#text * place / 2)) + 1
        next_at = first_at
    end
end

local function take_next()
    local from = next_at + 8
    local bytes = tonumber(text:sub(next_at, from - 1))
    next_at = from + bytes + 1
    if next_at > #text then
        next_at = 1
    end
    return text:sub(from, from + bytes - 1)
end

function request()
    if not are_kept then
        return take_next()
    end
    if not are_all then
        requests[#requests + 1] = take_next()
        are_all = next_at == first_at
        return requests[#requests]
    end
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("measured %d %d %d %d\n", summary.requests, summary.duration, failed, latency:percentile(50)))
end
