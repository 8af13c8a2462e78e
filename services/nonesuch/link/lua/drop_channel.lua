-- drop_channel: forgets every snapshot of a channel.
-- ARGV: channel
-- Returns how many versions there were.
local n = redis.call('ZCARD', k_snapshots(ARGV[1]))
delete_channel(ARGV[1])
return n
