-- place: registers an order and rings the bell. Idempotent.
-- ARGV: id, spec (JSON), sink, priority, tickets, count, deadline in ms or '', generator ids joined by ',',
--       snapshots that it names as JSON [[channel, version | 'latest'], ...], limit of open orders, numbers of done
--       tickets ...
-- Returns 'placed', 'exists' (the same order is open), 'taken' (another order has the id), 'no ring', 'full',
--       'no snapshot'.
local id, spec, sink, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tickets, deadline, named = tonumber(ARGV[5]), ARGV[7], cjson.decode(ARGV[9])
local old = redis.call('HGET', k_order(id), 'spec')
if old then return old == spec and 'exists' or 'taken' end
if redis.call('EXISTS', k_ring(sink)) == 0 then return 'no ring' end
if open_orders() >= tonumber(ARGV[10]) then return 'full' end
for _, snapshot in ipairs(named) do
  local channel, version = snapshot[1], snapshot[2]
  if version == 'latest' then
    if redis.call('ZCARD', k_snapshots(channel)) == 0 then return 'no snapshot' end
  elseif not redis.call('ZSCORE', k_snapshots(channel), version) then
    return 'no snapshot'
  end
end
local pins = {}
for _, snapshot in ipairs(named) do
  if snapshot[2] ~= 'latest' then
    redis.call('HINCRBY', k_pins(snapshot[1]), snapshot[2], 1)
    pins[#pins + 1] = snapshot
  end
end
local already = 0
for i = 11, #ARGV do
  if redis.call('SETBIT', k_done(id), ARGV[i], 1) == 0 then already = already + 1 end
end
redis.call('HSET', k_order(id), 'spec', spec, 'sink', sink, 'priority', priority, 'tickets', tickets,
  'generators', ARGV[8], 'next', 0, 'left', tickets - already, 'outstanding', 0, 'delivered', 0,
  'pins', #pins > 0 and cjson.encode(pins) or '[]')  -- cjson writes an empty table as {}
redis.call('SADD', k_orders(sink), id)
if deadline ~= '' then redis.call('ZADD', K_DEADLINES, deadline, id) end
if already >= tickets then
  close_order(id, 'done', '')
else
  redis.call('RPUSH', k_open(priority), id)
  ring_bell(tickets)
end
return 'placed'
