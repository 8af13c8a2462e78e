-- publish: the marker of a snapshot whose chunks are all there; from now on it is the latest.
-- ARGV: channel, version, header (JSON), chunks, sha256 of the payload, how many versions are kept
-- Returns {'published' | 'exists' | 'stale' | 'incomplete', latest version}: 'exists' when the same bytes have this
--       version already, 'stale' when the version is not above the latest.
local channel, version, chunks = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local newest = redis.call('ZRANGE', k_snapshots(channel), -1, -1)[1]
if redis.call('HGET', k_snapshot(channel, version), 'sha256') == ARGV[5] then return {'exists', newest} end
if newest and version <= tonumber(newest) then return {'stale', newest} end
for i = 0, chunks - 1 do
  if redis.call('EXISTS', k_chunk(channel, version, i)) == 0 then return {'incomplete', newest or ''} end
  redis.call('PERSIST', k_chunk(channel, version, i))
end
redis.call('HSET', k_snapshot(channel, version), 'header', ARGV[3], 'chunks', chunks, 'sha256', ARGV[5],
  'keep', ARGV[6])
redis.call('ZADD', k_snapshots(channel), version, version)
trim_snapshots(channel, tonumber(ARGV[6]))
return {'published', tostring(version)}
