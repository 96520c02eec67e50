-- The entries behind one, up to a number of entries or bytes, at least one. KEYS: stream. ARGV: id, entries, bytes.
local found, bytes, after = {}, 0, ARGV[1]
for _ = 1, tonumber(ARGV[2]) do
  local next = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 1)[1]
  if not next then
    break
  end
  found[#found + 1] = next
  after = next[1]
  for _, part in ipairs(next[2]) do
    bytes = bytes + #part
  end
  if bytes >= tonumber(ARGV[3]) then
    break
  end
end
return found
