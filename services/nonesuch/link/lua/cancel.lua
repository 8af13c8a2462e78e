-- cancel: ends an open order before its time.
-- ARGV: order id, state, reason
-- Returns 1, or 0 if no such order is open.
return close_order(ARGV[1], ARGV[2], ARGV[3])
