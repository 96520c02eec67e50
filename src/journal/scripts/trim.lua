-- Removes what is done, if the lease is still the holder's. KEYS: lease, stream, events.
-- ARGV: the holder, the first id that stays, events. Returns how many events there are, or -1: somebody else has the lease.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
local entries = redis.call('XLEN', KEYS[2])
if entries == 0 then
  redis.call('DEL', KEYS[3])
  return 0
end
local events = redis.call('DECRBY', KEYS[3], ARGV[3])
if events < entries then
  redis.call('SET', KEYS[3], entries)
  return entries
end
return events
