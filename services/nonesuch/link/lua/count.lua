-- count: how many orders are open.
-- Returns an integer.
return open_orders()
