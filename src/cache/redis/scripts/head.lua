local call, byte, find = redis.call, string.byte, string.find

-- Stands behind the version of a write. A version without it is that of a deletion, or was left by an older release.
local WRITTEN = '\0\255'

-- A version without what stands behind it; and whether it is that of a write.
local function bare(held)
  local mark = find(held, WRITTEN, 1, true)
  if mark then return string.sub(held, 1, mark - 1), true end
  return held, false
end

-- Whether version a comes before version b. Numbers ("n") have a fixed width, and places of a storage ("s") that are no texts
-- ("sx") are digits too: of one length any locale orders them alike. The rest is compared byte by byte.
local function older(a, b)
  local x, y = byte(a), byte(b)
  if x == 110 and y == 110 then return a < b end
  if x == 115 and y == 115 and #a == #b and byte(a, 2) ~= 120 and byte(b, 2) ~= 120 then return a < b end
  for i = 1, #a do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then return y ~= nil and x < y end
  end
  return #a < #b
end

-- First the keys, none twice, then in the same order their version keys, which hold the versions.
local count = #KEYS / 2
local held = call('MGET', unpack(KEYS, count + 1))
local window = ARGV[1]

-- Whether key i may not be written with this version: it has one that is not less. An equal one is applied once more if it
-- is a storage's own place ("s"), or if the key is gone and nothing with a version has deleted it.
local function superseded(i, new)
  local old, is_written = bare(held[i])
  if old ~= new then return not older(old, new) end
  if byte(new) == 115 then return false end
  return not (is_written and call('EXISTS', KEYS[i]) == 0)
end

-- The script's answer if the user may not set version keys: asked before anything is done, for Redis undoes nothing. Before
-- Redis 7.0 it shows only in an attempt; this one changes nothing, because it leaves no time to live.
local function refusal()
  if redis.acl_check_cmd then
    if redis.acl_check_cmd('SETEX', KEYS[count + 1], window, '') then return nil end
  else
    local answer = redis.pcall('SETEX', KEYS[count + 1], 0, '').err or ''
    if not find(answer, 'user executing', 1, true) and not find(answer, 'Unknown', 1, true) then return nil end
  end
  return redis.error_reply('NOPERM SETEX')
end

