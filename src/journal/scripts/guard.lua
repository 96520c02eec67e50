-- Spoils the transaction behind it, which watches the key, if its time is over. KEYS: late. ARGV: milliseconds since 1970.
-- Returns what the time is.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now >= tonumber(ARGV[1]) then
  redis.call('INCR', KEYS[1])
end
return now
