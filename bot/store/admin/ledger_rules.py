"""The rules of the ledger: each with a query that yields a line for every place where it is broken.

They rely on no trigger, CHECK or running total, but compute each again from the ledger entries. Both engines understand
them.
"""

from __future__ import annotations

from collections.abc import Mapping

RULES: Mapping[str, str] = {
    "every job is reserved at its price": """
SELECT jobs.id || ' has no reservation' FROM jobs LEFT JOIN reservations ON job_id = jobs.id WHERE job_id IS NULL
UNION ALL
SELECT jobs.id || ' reserved ' || reservations.reserved_usd_micros || ', not ' || jobs.reserved_usd_micros
FROM jobs JOIN reservations ON job_id = jobs.id WHERE reservations.reserved_usd_micros <> jobs.reserved_usd_micros
""",
    "every job is paid by its member, in its server": """
SELECT jobs.id || ' is paid by another member'
FROM jobs JOIN reservations ON job_id = jobs.id
    LEFT JOIN accounts member ON member.id = member_account_id AND member.kind = 'member'
    LEFT JOIN accounts server ON server.id = server_account_id AND server.kind = 'server'
WHERE member.guild_id IS NULL OR member.guild_id <> jobs.guild_id
    OR server.guild_id IS NULL OR server.guild_id <> jobs.guild_id
    OR (member.user_id IS NOT NULL AND jobs.user_id IS NOT NULL AND member.user_id <> jobs.user_id)
""",
    "a reservation ends exactly when its job does": """
SELECT jobs.id || ' is ' || jobs.status || ', its reservation ' || state
FROM jobs JOIN reservations ON job_id = jobs.id
WHERE state <> CASE
    WHEN jobs.status = 'succeeded' AND jobs.charged_usd_micros > 0 THEN 'settled'
    WHEN jobs.id IN (SELECT job_id FROM refunds) THEN 'settled'
    WHEN jobs.status IN ('succeeded', 'failed', 'cancelled') THEN 'released'
    ELSE 'open'
END
""",
    "what is shown is what was charged": """
SELECT jobs.id || ' shows ' || coalesce(CAST(charged_usd_micros AS TEXT), 'nothing') || ', was charged '
    || settled_usd_micros
FROM jobs JOIN reservations ON job_id = jobs.id
WHERE coalesce(charged_usd_micros, 0) <> settled_usd_micros
    - coalesce((SELECT usd_micros FROM refunds WHERE refunds.job_id = jobs.id), 0)
""",
    "a charge needs a picture": """
SELECT job_id || ' was charged without a picture' FROM reservations
WHERE settled_usd_micros > 0 AND NOT EXISTS (SELECT 1 FROM pictures WHERE pictures.job_id = reservations.job_id)
    AND job_id NOT IN (SELECT job_id FROM refunds)
    AND NOT EXISTS (  -- unless the member asked to be forgotten, or the order was deleted
        SELECT 1 FROM jobs JOIN replies ON replies.id = reply_id
        WHERE jobs.id = reservations.job_id AND erased_at IS NOT NULL
            AND (jobs.user_id IS NULL OR deleted_at IS NOT NULL)
    )
""",
    "what was erased is gone": """
SELECT id || ' was erased, but something of it is left' FROM jobs
WHERE erased_at IS NOT NULL AND (
    prompt <> '' OR options <> '{}' OR body <> '{}' OR seed IS NOT NULL OR failure_hint <> ''
    OR EXISTS (SELECT 1 FROM inputs WHERE inputs.job_id = jobs.id)
)
UNION ALL
SELECT replies.id || ' was deleted, but something of it is left' FROM replies JOIN jobs ON jobs.reply_id = replies.id
WHERE deleted_at IS NOT NULL AND (
    erased_at IS NULL OR message_id IS NOT NULL OR token IS NOT NULL
    OR EXISTS (SELECT 1 FROM pictures WHERE pictures.job_id = jobs.id)
    OR EXISTS (SELECT 1 FROM reply_copies WHERE reply_copies.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM shared_images WHERE shared_images.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM reviews WHERE reviews.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM votes WHERE votes.reply_id = replies.id)
    OR EXISTS (SELECT 1 FROM favourites WHERE favourites.reply_id = replies.id)
)
""",
    "what comes late is free": """
SELECT jobs.id || ' came late and was charged' FROM jobs
WHERE late_at IS NOT NULL AND (status <> 'succeeded' OR charged_usd_micros <> 0)
UNION ALL
SELECT jobs.id || ' is followed, but ' || status FROM jobs WHERE follow_until_at IS NOT NULL AND status <> 'failed'
UNION ALL
SELECT job_id || ' cost something late, but is ' || state FROM reservations
WHERE late_cost_at IS NOT NULL AND state <> 'released'
""",
    "a refund is of the whole charge for a lost image": """
SELECT refunds.job_id || ' was given back ' || usd_micros || ' of ' || coalesce(settled_usd_micros, 0) || ', and is '
    || coalesce(jobs.failure_reason, jobs.status)
FROM refunds LEFT JOIN reservations ON reservations.job_id = refunds.job_id LEFT JOIN jobs ON jobs.id = refunds.job_id
WHERE coalesce(state, '') <> 'settled' OR usd_micros <> settled_usd_micros
    OR refunds.wallet_usd_micros <> wallet_settled_usd_micros OR coalesce(jobs.failure_reason, '') <> 'image_lost'
""",
    "never charged more than reserved": """
SELECT job_id || ' was charged ' || settled_usd_micros || ' of ' || reserved_usd_micros FROM reservations
WHERE settled_usd_micros NOT BETWEEN 0 AND reserved_usd_micros
""",
    "a remote job belongs to one job": """
SELECT provider || ' ' || remote_id || ' belongs to ' || count(*) || ' jobs' FROM jobs
WHERE remote_id IS NOT NULL GROUP BY provider, remote_id HAVING count(*) > 1
""",
    "nothing is sent before Discord accepted the reply": """
SELECT jobs.id || ' was sent before Discord accepted the reply' FROM jobs JOIN replies ON replies.id = reply_id
WHERE submitted_at IS NOT NULL AND NOT accepted
""",
    "one command, one reply": """
SELECT 'command ' || interaction_id || ' has ' || count(*) || ' replies' FROM replies
GROUP BY interaction_id HAVING count(*) > 1
""",
    "every reply has its jobs": """
SELECT replies.id || ' shows ' || count(jobs.id) || ' jobs, numbered up to '
    || coalesce(CAST(max(ordinal) AS TEXT), 'nothing')
FROM replies LEFT JOIN jobs ON jobs.reply_id = replies.id GROUP BY replies.id
HAVING count(jobs.id) = 0 OR max(ordinal) <> count(jobs.id) - 1
""",
    "every transfer sums to zero": """
SELECT 'entry ' || id || ': ' || kind || ' ' || amount_usd_micros || ' from ' || from_bucket || ' to ' || to_bucket
FROM ledger WHERE amount_usd_micros <= 0 OR from_bucket = to_bucket
    OR kind || ': ' || from_bucket || ' to ' || to_bucket NOT IN (
        'reserve: available to set_aside', 'settle: set_aside to spent', 'remainder: set_aside to available',
        'release: set_aside to available', 'house: available to spent'
    )
""",
    "every reservation is booked and resolved once": """
SELECT job_id || ' has ' || count(*) || ' entries of one sort'
FROM ledger GROUP BY job_id, CASE kind WHEN 'settle' THEN 'resolve' WHEN 'release' THEN 'resolve' ELSE kind END
HAVING count(*) > 1
""",
    # What a reservation takes from the quota must equal the sums of its entries.
    "reservations equal their ledger entries": """
WITH entries AS (
    SELECT job_id,
        sum(CASE kind WHEN 'reserve' THEN amount_usd_micros ELSE 0 END) AS reserved,
        sum(CASE kind WHEN 'settle' THEN amount_usd_micros ELSE 0 END) AS settled,
        sum(CASE kind WHEN 'house' THEN amount_usd_micros ELSE 0 END) AS house,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held,
        max(CASE WHEN account_id <> CASE kind WHEN 'house' THEN 2 ELSE
            (SELECT member_account_id FROM reservations WHERE reservations.job_id = ledger.job_id) END
        THEN 1 ELSE 0 END) AS foreign_accounts
    FROM ledger GROUP BY job_id
)
SELECT reservations.job_id || ' does not equal its ledger entries' FROM reservations
    LEFT JOIN entries ON entries.job_id = reservations.job_id
WHERE reserved_usd_micros - wallet_usd_micros <> coalesce(reserved, 0)
    OR settled_usd_micros - wallet_settled_usd_micros <> coalesce(settled, 0)
    OR house_usd_micros <> coalesce(house, 0)
    OR held_usd_micros - CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END <> coalesce(held, 0)
    OR foreign_accounts > 0
UNION ALL
SELECT job_id || ' has ledger entries but no reservation' FROM entries
WHERE job_id NOT IN (SELECT job_id FROM reservations)
""",
    "totals equal the reservations": """
WITH parts AS (
    SELECT member_account_id AS account_id, quarter, held_usd_micros AS held, settled_usd_micros AS settled,
        house_usd_micros AS cost, CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END AS wallet_held,
        wallet_settled_usd_micros AS wallet_settled
    FROM reservations
    UNION ALL SELECT server_account_id, quarter, held_usd_micros, settled_usd_micros, house_usd_micros,
        CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END, wallet_settled_usd_micros
    FROM reservations
    UNION ALL SELECT 1, quarter, held_usd_micros, settled_usd_micros, house_usd_micros,
        CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END, wallet_settled_usd_micros
    FROM reservations
    UNION ALL SELECT member_account_id, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT server_account_id, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT 1, quarter, 0, -usd_micros, usd_micros, 0, -refunds.wallet_usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
    UNION ALL SELECT account_id, quarter, -held_usd_micros, -settled_usd_micros, -operator_cost_usd_micros,
        -wallet_held_usd_micros, -wallet_settled_usd_micros
    FROM totals
)
SELECT 'account ' || account_id || ', quarter ' || quarter || ': held off by ' || sum(held)
    || ', settled by ' || sum(settled) || ', operator''s cost by ' || sum(cost)
    || ', wallets by ' || sum(wallet_held) || ' and ' || sum(wallet_settled)
FROM parts GROUP BY account_id, quarter
HAVING sum(held) <> 0 OR sum(settled) <> 0 OR sum(cost) <> 0 OR sum(wallet_held) <> 0 OR sum(wallet_settled) <> 0
""",
    "days equal their quarters": """
WITH parts AS (
    SELECT account_id, quarter / 96 AS day, held_usd_micros AS held, settled_usd_micros AS settled,
        forgiven_usd_micros AS forgiven, operator_cost_usd_micros AS cost, wallet_held_usd_micros AS wallet_held,
        wallet_settled_usd_micros AS wallet_settled
    FROM totals
    UNION ALL
    SELECT account_id, day, -held_usd_micros, -settled_usd_micros, -forgiven_usd_micros, -operator_cost_usd_micros,
        -wallet_held_usd_micros, -wallet_settled_usd_micros
    FROM daily_totals
)
SELECT 'account ' || account_id || ', day ' || day || ': held off by ' || sum(held) || ', settled by ' || sum(settled)
    || ', forgiven by ' || sum(forgiven) || ', operator''s cost by ' || sum(cost)
    || ', wallets by ' || sum(wallet_held) || ' and ' || sum(wallet_settled)
FROM parts GROUP BY account_id, day
HAVING sum(held) <> 0 OR sum(settled) <> 0 OR sum(forgiven) <> 0 OR sum(cost) <> 0 OR sum(wallet_held) <> 0
    OR sum(wallet_settled) <> 0
""",
    "totals of channels equal the reservations": """
WITH parts AS (
    SELECT channel_id, quarter, held_usd_micros AS held, settled_usd_micros AS settled
    FROM reservations WHERE channel_id IS NOT NULL
    UNION ALL SELECT category_id, quarter, held_usd_micros, settled_usd_micros
    FROM reservations WHERE category_id IS NOT NULL
    UNION ALL SELECT channel_id, quarter, 0, -usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE channel_id IS NOT NULL
    UNION ALL SELECT category_id, quarter, 0, -usd_micros
    FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE category_id IS NOT NULL
    UNION ALL SELECT channel_id, quarter, -held_usd_micros, -settled_usd_micros FROM channel_totals
)
SELECT 'channel ' || channel_id || ', quarter ' || quarter || ': held off by ' || sum(held)
    || ', settled by ' || sum(settled)
FROM parts GROUP BY channel_id, quarter HAVING sum(held) <> 0 OR sum(settled) <> 0
""",
    "days of channels equal their quarters": """
WITH parts AS (
    SELECT channel_id, quarter / 96 AS day, held_usd_micros AS held, settled_usd_micros AS settled FROM channel_totals
    UNION ALL SELECT channel_id, day, -held_usd_micros, -settled_usd_micros FROM channel_daily_totals
)
SELECT 'channel ' || channel_id || ', day ' || day || ': held off by ' || sum(held) || ', settled by ' || sum(settled)
FROM parts GROUP BY channel_id, day HAVING sum(held) <> 0 OR sum(settled) <> 0
""",
    "every transfer of a wallet sums to zero, once": """
SELECT 'wallet entry ' || id || ': ' || kind || ' ' || amount_usd_micros || ' from ' || from_bucket || ' to '
    || to_bucket
FROM wallet_ledger WHERE amount_usd_micros <= 0 OR from_bucket = to_bucket
    OR kind || ': ' || from_bucket || ' to ' || to_bucket NOT IN (
        'credit: paid_in to available', 'take_back: available to paid_in', 'reserve: available to set_aside',
        'settle: set_aside to spent', 'remainder: set_aside to available', 'release: set_aside to available'
    )
    OR (kind IN ('credit', 'take_back')) <> (entitlement_id IS NOT NULL)
    OR (entitlement_id IS NULL) <> (job_id IS NOT NULL)
UNION ALL
SELECT coalesce(job_id, 'purchase ' || entitlement_id) || ' has ' || count(*) || ' wallet entries of one sort'
FROM wallet_ledger
GROUP BY job_id, entitlement_id, CASE kind WHEN 'settle' THEN 'resolve' WHEN 'release' THEN 'resolve' ELSE kind END
HAVING count(*) > 1
""",
    "purchases equal their wallet entries": """
WITH entries AS (
    SELECT entitlement_id, min(wallet_id) AS wallet_id, max(wallet_id) AS other_wallet_id,
        sum(CASE kind WHEN 'credit' THEN amount_usd_micros ELSE 0 END) AS credited,
        sum(CASE kind WHEN 'take_back' THEN amount_usd_micros ELSE 0 END) AS taken_back
    FROM wallet_ledger WHERE entitlement_id IS NOT NULL GROUP BY entitlement_id
)
SELECT 'purchase ' || id || ' does not equal its wallet entries' FROM entitlements
    LEFT JOIN entries ON entitlement_id = id
WHERE amount_usd_micros <> coalesce(credited, 0) OR taken_back_usd_micros <> coalesce(taken_back, 0)
    OR taken_back_usd_micros NOT BETWEEN 0 AND amount_usd_micros
    OR entries.wallet_id <> entitlements.wallet_id OR other_wallet_id <> entitlements.wallet_id
UNION ALL
SELECT 'purchase ' || entitlement_id || ' has wallet entries but is not recorded' FROM entries
WHERE entitlement_id NOT IN (SELECT id FROM entitlements)
""",
    # A job is paid from the quota first. Whose wallet it was is not known any more once a member was forgotten.
    "what wallets pay equals their entries": """
WITH entries AS (
    SELECT job_id, min(wallet_id) AS wallet_id, max(wallet_id) AS other_wallet_id,
        sum(CASE kind WHEN 'reserve' THEN amount_usd_micros ELSE 0 END) AS reserved,
        sum(CASE kind WHEN 'settle' THEN amount_usd_micros ELSE 0 END) AS settled,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held
    FROM wallet_ledger WHERE job_id IS NOT NULL GROUP BY job_id
)
SELECT reservations.job_id || ' does not equal its wallet entries' FROM reservations
    LEFT JOIN entries ON entries.job_id = reservations.job_id
WHERE wallet_usd_micros <> coalesce(reserved, 0) OR wallet_settled_usd_micros <> coalesce(settled, 0)
    OR CASE state WHEN 'open' THEN wallet_usd_micros ELSE 0 END <> coalesce(held, 0)
    OR wallet_usd_micros NOT BETWEEN 0 AND reserved_usd_micros
    OR wallet_settled_usd_micros <> CASE WHEN settled_usd_micros > reserved_usd_micros - wallet_usd_micros
        THEN settled_usd_micros - (reserved_usd_micros - wallet_usd_micros) ELSE 0 END
    OR entries.wallet_id <> reservations.wallet_id OR other_wallet_id <> reservations.wallet_id
    OR (wallet_usd_micros > 0 AND reservations.wallet_id IS NULL)
    OR (SELECT user_id FROM wallets WHERE wallets.id = reservations.wallet_id)
        <> (SELECT user_id FROM jobs WHERE jobs.id = reservations.job_id)
UNION ALL
SELECT job_id || ' has wallet entries but no reservation' FROM entries
WHERE job_id NOT IN (SELECT job_id FROM reservations)
""",
    "wallets equal their entries": """
WITH entries AS (
    SELECT wallet_id,
        sum(CASE 'available' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS available,
        sum(CASE 'set_aside' WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END)
            AS held
    FROM wallet_ledger GROUP BY wallet_id
)
SELECT 'wallet ' || id || ' does not equal its entries' FROM wallets LEFT JOIN entries ON wallet_id = id
WHERE available_usd_micros <> coalesce(available, 0) + coalesce((
        SELECT sum(refunds.wallet_usd_micros) FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id
        WHERE reservations.wallet_id = wallets.id
    ), 0)
    OR held_usd_micros <> coalesce(held, 0)
UNION ALL
SELECT 'wallet ' || wallet_id || ' has entries but is missing' FROM entries
WHERE wallet_id NOT IN (SELECT id FROM wallets)
""",
    "no wallet was overdrawn": """
SELECT 'wallet ' || wallet_id || ' was short by ' || -left_then || ' at entry ' || id FROM (
    SELECT id, wallet_id, sum(usd_micros) OVER (PARTITION BY wallet_id ORDER BY id, is_refund) AS left_then
    FROM (
        SELECT id, wallet_id, 0 AS is_refund, CASE 'available'
            WHEN to_bucket THEN amount_usd_micros WHEN from_bucket THEN -amount_usd_micros ELSE 0 END AS usd_micros
        FROM wallet_ledger
        UNION ALL SELECT through_wallet_ledger_id, wallet_id, 1, refunds.wallet_usd_micros
        FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id WHERE wallet_id IS NOT NULL
    ) AS changes
) AS history WHERE left_then < 0
""",
}
