-- commit: one atomic step from a minted ticket to an unread batch. A second copy of a ticket is dropped.
-- The batch is in k_minted already and is only renamed: as an argument it would be copied into Lua and out again, which
-- takes six times as long as to receive it. If nothing is delivered it is deleted.
-- ARGV: order id, ticket number, rows, then pairs of a counter's name and how much it grows
-- Returns 'committed', 'duplicate', 'closed' (the order is no longer open), 'too large', 'full' (policy `latest` with
--       every slot in the consumer's hands: try again), or 'late' (the batch has expired: write it again).
local id, number, rows = ARGV[1], ARGV[2], tonumber(ARGV[3])
local minted = k_minted(id, number)

local function refuse(why)
  redis.call('DEL', minted)
  return why
end

local sink = redis.call('HGET', k_order(id), 'sink')
if not sink then return refuse('closed') end
if redis.call('GETBIT', k_done(id), number) == 1 then return refuse('duplicate') end
local r = redis.call('HMGET', k_ring(sink), 'policy', 'slot_bytes')
local bytes = redis.call('STRLEN', minted)
if bytes == 0 then return 'late' end
if bytes > tonumber(r[2]) then return refuse('too large') end

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
if not slot then return refuse('full') end

redis.call('RENAME', minted, k_slot(sink, slot))
redis.call('PERSIST', k_slot(sink, slot))
redis.call('RPUSH', k_ready(sink), cjson.encode(
  {order = id, ticket = tonumber(number), rows = rows, slot = tonumber(slot), bytes = bytes}))
redis.call('HINCRBY', k_ring(sink), 'reserved', -1)
redis.call('HINCRBY', k_ring(sink), 'committed', 1)
redis.call('SETBIT', k_done(id), number, 1)
redis.call('LREM', k_returned(id), 0, number)
redis.call('ZREM', K_LEASES, id .. ' ' .. number)
redis.call('HINCRBY', k_order(id), 'outstanding', -1)
redis.call('HINCRBY', k_order(id), 'delivered', rows)
for i = 4, #ARGV, 2 do redis.call('HINCRBY', k_tally(id), ARGV[i], ARGV[i + 1]) end
if redis.call('HINCRBY', k_order(id), 'left', -1) == 0 then close_order(id, 'done', '') end
return 'committed'
