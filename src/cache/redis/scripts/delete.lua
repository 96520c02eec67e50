-- Deletes keys, each with a version.
-- ARGV: how long versions are kept, in seconds; and for each its version.
-- Returns for each: 0 superseded, 2 deleted, 3 deleted though there was nothing.
local done, is_any = {}, false
for i = 1, count do
  done[i] = held[i] and superseded(i, ARGV[1 + i]) and 0 or 3
  is_any = is_any or done[i] == 3
end
local refused = is_any and refusal()
if refused then return refused end
-- All before the versions: Redis lets a script delete even when it is full, and go on then.
for i = 1, count do
  if done[i] == 3 then done[i] = 3 - call('UNLINK', KEYS[i]) end
end
for i = 1, count do
  if done[i] > 0 then call('SETEX', KEYS[count + i], window, ARGV[1 + i]) end
end
return done
