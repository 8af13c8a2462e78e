-- give_back: a ticket that its worker will not finish is handed out again.
-- ARGV: order id, ticket number, reason or '' (then the attempt does not count: the worker is only stopping)
-- Returns 1, or 0 when the ticket is no longer wanted.
if ARGV[3] == '' then redis.call('HINCRBY', k_attempts(ARGV[1]), ARGV[2], -1) end
local wanted = return_ticket(ARGV[1], ARGV[2], ARGV[3])
if redis.call('EXISTS', k_order(ARGV[1])) == 0 then redis.call('DEL', k_attempts(ARGV[1])) end
return wanted
