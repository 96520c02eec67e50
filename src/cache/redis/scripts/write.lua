-- Stores values, each with a version.
-- ARGV: how long versions are kept, in seconds; how many seconds each value is to live, or all alike, or nothing, with commas
-- between; and for each its version and its value.
-- Returns for each: 0 superseded, 1 stored.
-- Values come before versions, so a call that breaks off leaves no version without its value. The first write is the one
-- that may be refused: those after it are of the same command, or `refusal` was asked.
local ttl = ARGV[2]
local each = find(ttl, ',', 1, true) and string.gmatch(ttl, '([^,]*),')
local done, ttls, kept, plain, last = {}, each and {}, {}, {}, 0
for i = 1, count do
  if each then
    ttl = each()
    ttls[i] = ttl
  end
  local new, old = ARGV[2 * i + 1], held[i]
  local keep = new .. WRITTEN
  kept[i] = keep
  -- Numbers ("n") of writes differ in their digits alone, and come before all else: told apart without taking the mark off.
  local is_later = old and #old == #keep and old < keep and byte(new) == 110
  if old and not is_later and superseded(i, new) then
    done[i] = 0
  else
    done[i] = 1
    if ttl == '' then
      plain[last + 1], plain[last + 2] = KEYS[i], ARGV[2 * i + 2]
      last = last + 2
    end
  end
end
if last > 0 and count == 1 then
  call('SET', KEYS[1], ARGV[4])
  call('SET', KEYS[2], kept[1], 'EX', window)
  return done
end
if last > 0 then
  local refused = refusal()
  if refused then return refused end
  call('MSET', unpack(plain))
end
for i = 1, count do
  if done[i] == 1 then
    if each then ttl = ttls[i] end
    if ttl ~= '' then call('SETEX', KEYS[i], ttl, ARGV[2 * i + 2]) end
    call('SETEX', KEYS[count + i], window, kept[i])
  end
end
return done
