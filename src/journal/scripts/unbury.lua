-- Takes a dead letter away, and puts its event back into the journal if there is one to put back.
-- KEYS: dead letters, buried, stream, events. ARGV: id, entry (empty: none), events that the journal holds at most,
-- digests that stand beside the entry (empty: none).
-- Returns 1, 0: there is no such letter any more, or -1: the journal is full.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then
  return 0
end
if ARGV[2] ~= '' then
  if tonumber(redis.call('GET', KEYS[4]) or '0') >= tonumber(ARGV[3]) then
    return -1
  end
  redis.call('INCRBY', KEYS[4], 1)
  local command = {'XADD', KEYS[3], '*', 'e', ARGV[2]}
  if ARGV[4] ~= '' then
    command[6], command[7] = 'd', ARGV[4]
  end
  redis.call(unpack(command))
end
local fields = found[2]
for i = 1, #fields, 2 do
  if fields[i] == 'of' then
    redis.call('HDEL', KEYS[2], fields[i + 1])
  end
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
