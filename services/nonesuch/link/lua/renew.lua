-- renew: prolongs the lease of a ticket.
-- ARGV: order id, ticket number, lease in ms
-- Returns 1, or 0 when the ticket is no longer wanted (its order ended, or another copy was committed).
local id, number = ARGV[1], ARGV[2]
if redis.call('EXISTS', k_order(id)) == 0 or redis.call('GETBIT', k_done(id), number) == 1 then return 0 end
redis.call('LREM', k_returned(id), 0, number)
redis.call('ZADD', K_LEASES, now_ms() + tonumber(ARGV[3]), id .. ' ' .. number)
return 1
