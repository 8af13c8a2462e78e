-- release: the consumer is done with an entry that it took; a batch's slot is free again. Idempotent.
-- ARGV: ring name, the entry as it was taken
-- Returns 1, or 0 if it was not in hand.
local name, entry = ARGV[1], ARGV[2]
if redis.call('LREM', k_in_hand(name), 1, entry) == 0 then return 0 end
local slot = cjson.decode(entry).slot
if slot then
  redis.call('DEL', k_slot(name, slot))
  redis.call('RPUSH', k_free(name), slot)
  ring_bell(1)
end
return 1
