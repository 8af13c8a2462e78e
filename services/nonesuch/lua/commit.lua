-- commit: one atomic step from a minted ticket to an unread batch. A second copy of a ticket is dropped.
-- ARGV: order id, ticket number, rows, payload (Arrow IPC stream), then pairs of a counter's name and how much it grows
-- Returns 'committed', 'duplicate', 'closed' (the order is no longer open), 'too large', or 'full' (policy `latest`
--       with every slot in the consumer's hands: try again).
local id, number, rows, payload = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local sink = redis.call('HGET', k_order(id), 'sink')
if not sink then return 'closed' end
if redis.call('GETBIT', k_done(id), number) == 1 then return 'duplicate' end
local r = redis.call('HMGET', k_ring(sink), 'policy', 'slot_bytes')
if #payload > tonumber(r[2]) then return 'too large' end

-- The oldest unread batch; ends of orders are passed over.
local function overwrite_oldest()
  for _, entry in ipairs(redis.call('LRANGE', k_ready(sink), 0, -1)) do
    local slot = cjson.decode(entry).slot
    if slot then
      redis.call('LREM', k_ready(sink), 1, entry)
      redis.call('HINCRBY', k_ring(sink), 'overwritten', 1)
      return slot
    end
  end
end

local slot = redis.call('LPOP', k_free(sink))
if not slot and r[1] == 'latest' then slot = overwrite_oldest() end
if not slot then return 'full' end

redis.call('SET', k_slot(sink, slot), payload)
redis.call('RPUSH', k_ready(sink), cjson.encode(
  {order = id, ticket = tonumber(number), rows = rows, slot = tonumber(slot), bytes = #payload}))
redis.call('HINCRBY', k_ring(sink), 'reserved', -1)
redis.call('HINCRBY', k_ring(sink), 'committed', 1)
redis.call('SETBIT', k_done(id), number, 1)
redis.call('LREM', k_returned(id), 0, number)
redis.call('ZREM', K_LEASES, id .. ' ' .. number)
redis.call('HINCRBY', k_order(id), 'outstanding', -1)
redis.call('HINCRBY', k_order(id), 'delivered', rows)
for i = 5, #ARGV, 2 do redis.call('HINCRBY', k_tally(id), ARGV[i], ARGV[i + 1]) end
if redis.call('HINCRBY', k_order(id), 'left', -1) == 0 then close_order(id, 'done', '') end
return 'committed'
