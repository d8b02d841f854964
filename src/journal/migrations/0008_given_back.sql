-- What a channel's end gave back of the growth of a voucher: a close that the chain takes back charges it again.
ALTER TABLE vouchers ADD COLUMN given_back INTEGER NOT NULL DEFAULT 0;
