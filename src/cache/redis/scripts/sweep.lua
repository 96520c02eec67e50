-- Deletes keys that match a pattern which has a version.
-- ARGV: how long versions are kept, in seconds; and the version.
-- Returns for each key: 0 nothing was there, 1 deleted, 2 left because it is newer.
local new = ARGV[2]
local done, swept = {}, {}
for i = 1, count do
  if held[i] and older(new, (bare(held[i]))) then
    done[i] = 2 * call('EXISTS', KEYS[i])
  else
    swept[#swept + 1] = i
  end
end
local refused = #swept > 0 and refusal()
if refused then return refused end
for _, i in ipairs(swept) do
  done[i] = call('UNLINK', KEYS[i])
end
for _, i in ipairs(swept) do
  if held[i] or done[i] == 1 then call('SETEX', KEYS[count + i], window, new) end
end
return done
