-- Lets a value stand that is known again by its length and digest.
-- ARGV: how long versions are kept, in seconds; how many seconds the value is to live, or nothing; its version, its length, its
-- digest, and what stands behind the version.
-- Returns 0 superseded, 4 done, 5 nothing was done: the key holds something else, or nothing.
if held[1] and superseded(1, ARGV[3]) then return {0} end
-- One byte more than it should have shows that there is too much.
local value = redis.pcall('GETRANGE', KEYS[1], 0, ARGV[4])
if type(value) ~= 'string' or #value ~= tonumber(ARGV[4]) or redis.sha1hex(value) ~= ARGV[5] then return {5} end
if value == '' and call('EXISTS', KEYS[1]) == 0 then return {5} end
local refused = refusal()
if refused then return refused end
if ARGV[2] == '' then
  call('PERSIST', KEYS[1])
else
  call('EXPIRE', KEYS[1], ARGV[2])
end
call('SETEX', KEYS[2], window, ARGV[3] .. WRITTEN .. ARGV[6])
return {4}
