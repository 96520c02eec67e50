-- Stores one value with a version, and what is to be remembered of it.
-- ARGV: how long versions are kept, in seconds; how many seconds the value is to live, or nothing; its version, the value, and
-- what stands behind the version.
-- Returns 0 superseded, 1 stored.
if held[1] and superseded(1, ARGV[3]) then return {0} end
if ARGV[2] == '' then
  call('SET', KEYS[1], ARGV[4])
else
  call('SET', KEYS[1], ARGV[4], 'EX', ARGV[2])
end
call('SET', KEYS[2], ARGV[3] .. WRITTEN .. ARGV[5], 'EX', window)
return {1}
