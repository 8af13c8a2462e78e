-- release: the consumer is done with an entry that it took; a batch's slot is free again. Idempotent.
-- ARGV: ring name, the entry as it was taken, reader or '' for the consumer of a ring that nobody else can reach
-- Returns 1, 0 if it was not in hand, or -1 if another reader has begun.
local name, entry = ARGV[1], ARGV[2]
if redis.call('EXISTS', k_ring(name)) == 1 and not is_reader(name, ARGV[3]) then return -1 end
if redis.call('LREM', k_in_hand(name), 1, entry) == 0 then return 0 end
local slot = cjson.decode(entry).slot
if slot then
  redis.call('DEL', k_slot(name, slot))
  redis.call('RPUSH', k_free(name), slot)
  ring_bell(1)
end
return 1
