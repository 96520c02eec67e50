-- Gives the lease back. KEYS: lease, former. ARGV: the holder, 1 if nothing of its work is in progress any more.
if ARGV[2] == '1' then
  redis.call('SREM', KEYS[2], ARGV[1])
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
