-- Claims of one node: who may send a purchase.
--
-- KEYS    as in common.lua
-- ARGV    1 node · 2 not_after · 3 claim_ttl_ms · 4 learn_ms · 5 the highest seq that the node saw ·
--         6 whether to ask which server this is, 0|1 · 7 what the node has reported to, or nothing ·
--         then for each try: claim, attempt, user, pool, units
-- Returns for each try: admitted DEADLINE · in_progress CLAIM same|other · pending CLAIM ·
--         confirmed CLAIM · already · limit UNITS · not_started · ended · sold_out · paused ·
--         learning · unread · busy · insufficient UNITS · unknown_pool · too_late
-- Cost    O(pools + tries)

-- Units that the user may still buy in one more order.
local function units_left(records)
  if #records >= math.min(sale.orders, 8) then return 0 end
  local bought = 0
  for _, r in ipairs(records) do bought = bought + r.units end
  return math.max(0, sale.units - bought)
end

-- The oldest record whose kind is one of `kinds`, of this attempt or of others.
local function find(records, attempt, same, kinds)
  for _, r in ipairs(records) do
    if (r.attempt == attempt) == same and string.find(kinds, r.kind, 1, true) then return r end
  end
end

-- What the user's records answer; nil: they do not stand in the way.
local function repeated(records, one, left)
  local r = find(records, one.attempt, true, 'C')
  if r then return 'confirmed ' .. r.claim end
  for _, same in ipairs({ true, false }) do
    r = find(records, one.attempt, same, 'A')
    if r then
      local joins = same and r.node == ARGV[1]
      return 'in_progress ' .. r.claim .. (joins and ' same' or ' other')
    end
    r = find(records, one.attempt, same, 'PL')
    if r then return 'pending ' .. r.claim end
  end
  if #records == 0 or (left > 0 and one.units <= left) then return nil end
  return sale.orders == 1 and 'already' or 'limit ' .. int(left)
end

local function claim_one(now, one, is_learning)
  local records = records_of(one.user)
  local left = units_left(records)
  local known = repeated(records, one, left)
  if known then return known end
  if is_over(now) then return 'ended' end
  if sale.sold_out then return 'sold_out' end
  local pool = pool_of(one.pool)
  if not pool then return 'unknown_pool' end
  if pool.sold_out then return 'sold_out' end
  if now < sale.opens_at then return 'not_started' end
  if sale.paused then return 'paused' end
  if is_learning then return 'learning' end
  if not is_known(pool) then return 'unread' end
  if one.units == 0 or one.units > left then return 'limit ' .. int(left) end
  local free = room(pool)
  if one.units > free then
    return free <= 0 and 'busy' or 'insufficient ' .. int(free)
  end
  local deadline = now + number(ARGV[3], 'claim_ttl_ms')
  local with = copy(records)
  with[#with + 1] = { kind = 'A', claim = one.claim, attempt = one.attempt, pool = one.pool,
    units = one.units, node = ARGV[1], deadline = deadline }
  put_user(one.user, with)
  tell('admitted', one.pool, int(one.units), one.user, one.claim)
  return 'admitted ' .. int(deadline)
end

local function claim()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local answers = {}
  local is_late = now > number(ARGV[2], 'not_after')
  local is_learning = false
  if not is_late then
    look(ARGV[6], number(ARGV[4], 'learn_ms'), number(ARGV[5], 'seq'))
    is_learning = now < sale.learn_until or ARGV[7] ~= mark()
  end
  for i = 8, #ARGV, 5 do
    local one = { claim = ARGV[i], attempt = ARGV[i + 1], user = ARGV[i + 2], pool = ARGV[i + 3],
      units = number(ARGV[i + 4], 'units') }
    answers[#answers + 1] = is_late and 'too_late' or claim_one(now, one, is_learning)
  end
  return finish(now, answers)
end
