-- Adds a dead letter, and lets the oldest go beyond the bound. KEYS: dead letters, buried, lease, stream.
-- ARGV: most, name in buried (empty: none), who must hold the lease (empty: nobody), field, value, ...
-- Returns how many had to go, or -1: somebody else has the lease.
if ARGV[3] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[3] then
  return -1
end
if ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
  return 0
end
local command = {'XADD', KEYS[1], '*'}
for i = 4, #ARGV do
  command[#command + 1] = ARGV[i]
end
local id = redis.call(unpack(command))
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[2], id)
end
-- A few at a time: many are too many once the bound is lowered, and Redis does nothing else meanwhile.
local gone = 0
while gone < 50 and redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) do
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  local fields = first[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'of' then
      redis.call('HDEL', KEYS[2], fields[i + 1])
    end
  end
  redis.call('XDEL', KEYS[1], first[1])
  gone = gone + 1
end
return gone
