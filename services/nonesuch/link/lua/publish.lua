-- publish: the marker of a snapshot whose chunks are all staged: they become its payload, and it becomes the latest.
-- ARGV: channel, version, header (JSON), chunks, sha256 of the payload, how many versions are kept, sha256s joined by ','
--       of which the latest must have one ('' no condition, '*' any)
-- Returns {'published' | 'exists' | 'changed' | 'stale' | 'incomplete', latest version or ''}: 'exists' when the same
--       bytes have this version already, 'changed' when the latest is not as the condition wants it, 'stale' when the
--       version is not above the latest.
local channel, version, chunks, sha256 = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]
local newest = redis.call('ZRANGE', k_snapshots(channel), -1, -1)[1]
if redis.call('HGET', k_snapshot(channel, version), 'sha256') == sha256 then return {'exists', newest} end
if ARGV[7] ~= '' then
  local held = newest and redis.call('HGET', k_snapshot(channel, newest), 'sha256')
  if not held or (ARGV[7] ~= '*' and not string.find(ARGV[7], held, 1, true)) then return {'changed', newest or ''} end
end
if newest and tonumber(version) <= tonumber(newest) then return {'stale', newest} end
for i = 0, chunks - 1 do
  if redis.call('EXISTS', k_staged(channel, version, sha256, i)) == 0 then return {'incomplete', newest or ''} end
end
local bytes = 0
for i = 0, chunks - 1 do
  redis.call('RENAME', k_staged(channel, version, sha256, i), k_chunk(channel, version, i))
  redis.call('PERSIST', k_chunk(channel, version, i))
  bytes = bytes + redis.call('STRLEN', k_chunk(channel, version, i))
end
redis.call('HSET', k_snapshot(channel, version), 'header', ARGV[3], 'chunks', chunks, 'bytes', bytes, 'sha256', sha256,
  'keep', ARGV[6], 'published', now_ms())
redis.call('ZADD', k_snapshots(channel), version, version)
redis.call('SADD', K_CHANNELS, channel)
trim_snapshots(channel, tonumber(ARGV[6]))
return {'published', version}
