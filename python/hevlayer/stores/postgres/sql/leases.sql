-- try_acquire --
-- Taken by this session, until it gives it back or ends; false when another session has it.
SELECT pg_try_advisory_lock(:key) AS taken

-- release --
-- One level of the lock: a lease is never taken twice by one session.
SELECT pg_advisory_unlock(:key) AS released

-- beat --
-- Whether the session still lives, and with it its locks.
SELECT 1
