-- Writes, each with a version.
-- ARGV: how long versions are kept, in seconds; what to do with each key, or with all alike ('delete', or how many seconds
-- it is to live, or nothing), with commas between; and for each its version and its value.
-- Returns for each: 0 superseded, 1 stored, 2 deleted, 3 deleted though there was nothing.
local window, verb = ARGV[1], ARGV[2]
local each = string.find(verb, ',', 1, true) and string.gmatch(verb, '([^,]*),')
local done, plain, last = {}, {}, 0
for i = 1, count do
  local old, new, value = held[i], ARGV[2 * i + 1], ARGV[2 * i + 2]
  if each then verb = each() end
  if old and not older(old, new) then
    done[i] = 0
  else
    if verb == '' then
      plain[last + 1], plain[last + 2] = KEYS[i], value
      last = last + 2
      done[i] = 1
    elseif verb == 'delete' then
      done[i] = 3 - call('UNLINK', KEYS[i])
    else
      call('SETEX', KEYS[i], verb, value)
      done[i] = 1
    end
    call('SETEX', KEYS[count + i], window, new)
  end
end
if last > 0 then call('MSET', unpack(plain)) end
return done
