local call, byte = redis.call, string.byte

-- Whether version a comes before version b. Numbers have a fixed width, so that any locale orders their digits alike; texts
-- are compared byte by byte.
local function older(a, b)
  if byte(a) == 110 and byte(b) == 110 then return a < b end
  for i = 1, #a do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return y ~= nil and x < y end
  end
  return #a < #b
end

-- First the keys, none twice, then in the same order their companions, which hold the versions.
local count = #KEYS / 2
local held = call('MGET', unpack(KEYS, count + 1))

