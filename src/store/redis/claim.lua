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
  if #records == 0 then return nil end
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
  if left > 0 and one.units <= left then return nil end
  return sale.orders == 1 and 'already' or 'limit ' .. int(left)
end

-- What everybody is told who wants of this pool, whatever they have; nil: the limits and the room say. It
-- is the same for a whole batch.
local function closed(now, pool, is_learning)
  if is_over(now) then return 'ended' end
  if sale.sold_out then return 'sold_out' end
  if not pool then return 'unknown_pool' end
  if pool.sold_out then return 'sold_out' end
  if now < sale.opens_at then return 'not_started' end
  if sale.paused then return 'paused' end
  if is_learning then return 'learning' end
  if not is_known(pool) then return 'unread' end
end

-- Admits somebody who has nothing yet.
local function admit_first(user, claim, attempt, pool, units, deadline)
  local text = 'A|' .. claim .. '|' .. attempt .. '|' .. pool.name .. '|' .. units .. '|' .. ARGV[1]
    .. '|' .. deadline
  put_only(user, claim, text, deadline)
  pool.held = pool.held + units
end

local function admit_again(one, mine, deadline)
  local with = copy(mine)
  with[#with + 1] = { kind = 'A', claim = one.claim, attempt = one.attempt, pool = one.pool,
    units = one.units, node = ARGV[1], deadline = number(deadline, 'deadline') }
  put_user(one.user, with)
end

-- What the limits and the room say; nil: there is nothing against it.
local function refused(pool, units, left)
  if units == 0 or units > left then return 'limit ' .. int(left) end
  local free = room(pool)
  if units > free then return free <= 0 and 'busy' or 'insufficient ' .. int(free) end
end

local function claim()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local answers, shut = {}, {}
  local is_late = now > number(ARGV[2], 'not_after')
  local is_learning = false
  if not is_late then
    look(ARGV[6], number(ARGV[4], 'learn_ms'), number(ARGV[5], 'seq'))
    is_learning = now < sale.learn_until or ARGV[7] ~= mark()
  end
  local deadline = int(now + number(ARGV[3], 'claim_ttl_ms'))
  local admitted, left_first = 'admitted ' .. deadline, units_left({})
  for i = 8, #ARGV, 5 do
    local claim, user, name, units = ARGV[i], ARGV[i + 2], ARGV[i + 3], units_of(ARGV[i + 4])
    local pool, known, mine = pool_of(name), nil, nil
    if shut[name] == nil then shut[name] = closed(now, pool, is_learning) or false end
    if is_late then
      known = 'too_late'
    elseif text_of(user) == '' and not records[user] then
      known = shut[name] or refused(pool, units, left_first)
    else
      mine = records_of(user)
      local one, left = { attempt = ARGV[i + 1], units = units }, units_left(mine)
      known = repeated(mine, one, left) or shut[name] or refused(pool, units, left)
    end
    if not known then
      if mine then
        admit_again({ user = user, claim = claim, attempt = ARGV[i + 1], pool = name,
          units = units }, mine, deadline)
      else
        admit_first(user, claim, ARGV[i + 1], pool, units, deadline)
      end
      tell('admitted', name, units, user, claim)
    end
    answers[#answers + 1] = known or admitted
  end
  return finish(now, answers)
end
