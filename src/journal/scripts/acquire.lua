-- Takes the lease, if it is free and there is something to feed, or prolongs it for who has it, or does neither.
-- KEYS: lease, epoch, former, stream, events, dead letters, late. ARGV: who asks, milliseconds, and what for: 0 to take it, 1 to prolong it, 2 to look.
-- Returns {what, events, milliseconds since 1970 of the oldest entry or 0, dead letters, former holder...}; what: the number of
-- the lease if it was given, -1 if it was prolonged, and 0 if somebody else has it or there is nothing to feed.
local entries = redis.call('XLEN', KEYS[4])
local events = math.max(tonumber(redis.call('GET', KEYS[5]) or '0'), entries)
local oldest = 0
if entries > 0 then
  local first = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)
  oldest = tonumber(string.match(first[1][1], '^(%d+)'))
end
local reply = {0, events, oldest, redis.call('XLEN', KEYS[6])}
if redis.call('GET', KEYS[1]) == ARGV[1] and ARGV[3] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  reply[1] = -1
  return reply
end
if ARGV[3] ~= '0' or entries == 0 then
  return reply
end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return reply
end
reply[1] = redis.call('INCR', KEYS[2])
-- What is watched is there while its slot moves to another node.
redis.call('SET', KEYS[7], 0, 'NX')
redis.call('SADD', KEYS[3], ARGV[1])
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  if holder ~= ARGV[1] then
    reply[#reply + 1] = holder
  end
end
return reply
