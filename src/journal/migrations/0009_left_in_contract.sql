-- What the provider had taken of an expired channel whose rest is not worth the gas of its close, by the word of two
-- endpoints at a final block. NULL: not known, or worth it.
ALTER TABLE channels ADD COLUMN taken_in_the_end INTEGER;
