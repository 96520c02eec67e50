-- Deletes keys that match a pattern which has a version.
-- ARGV: how long versions are kept, in seconds; and the version.
-- Returns for each key: 0 nothing was there, 1 deleted, 2 left because it is newer.
local window, new = ARGV[1], ARGV[2]
local done = {}
for i = 1, count do
  local old = held[i]
  if old and older(new, old) then
    done[i] = 2 * call('EXISTS', KEYS[i])
  else
    done[i] = call('UNLINK', KEYS[i])
    if old or done[i] == 1 then
      call('SETEX', KEYS[count + i], window, new)
    end
  end
end
return done
