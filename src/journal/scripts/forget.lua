-- A former holder has nothing in progress any more. KEYS: lease, former. ARGV: the holder of the lease, the former one.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SREM', KEYS[2], ARGV[2])
return 1
