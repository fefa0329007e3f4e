-- The id of the command (Discord: interaction id) that an adjustment follows: one that reaches two gateways counts once.

ALTER TABLE adjustments ADD COLUMN command_id INTEGER;

CREATE UNIQUE INDEX adjustments_once ON adjustments (command_id) WHERE command_id IS NOT NULL;
