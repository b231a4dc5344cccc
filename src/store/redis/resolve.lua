-- Outcomes of admitted purchases, matched by claim id.
--
-- KEYS    as in common.lua
-- ARGV    for each outcome: user, claim, attempt, pool, units, C|F|X|P|V, hold_until or nothing
-- Returns for each outcome: applied · repeated · conflict · unknown · late
-- Cost    O(pools + outcomes)

local TOLD = { C = 'confirmed', F = 'failed', X = 'limbo', P = 'pending', V = 'void' }

-- What an outcome makes of a record: a kind and a deadline, or 'gone', or nil and why nothing.
local function step(record, one, now)
  local kind, verdict = record.kind, one.verdict
  if verdict == 'V' then return 'gone' end
  if verdict == 'F' then
    if kind == 'C' then return nil, 'conflict' end
    return 'gone'
  end
  if verdict == 'C' and kind ~= 'C' then return 'C', record.deadline end
  if verdict == 'X' and (kind == 'A' or (kind == 'P' and record.deadline <= now)) then
    return 'L', record.deadline
  end
  if verdict == 'P' and kind == 'A' then return 'P', one.hold_until or record.deadline end
  if verdict == 'P' and kind == 'L' and one.hold_until and one.hold_until > now then
    return 'P', one.hold_until
  end
  return nil, 'repeated'
end

local function resolve_one(now, one)
  local with = copy(records_of(one.user))
  local at = nil
  for i, r in ipairs(with) do
    if r.claim == one.claim and not at then at = i end
  end
  if not at then
    if one.verdict ~= 'C' then return 'unknown' end
    -- A C that comes again, after a restart say, does not bring a cancelled order back.
    local is_void = redis.call('HEXISTS', KEYS[9], 'void:' .. one.claim) == 1
    if is_void or is_voided[one.claim] then return 'repeated' end
    if not pool_of(one.pool) then return 'conflict' end
    with[#with + 1] = { kind = 'C', claim = one.claim, attempt = one.attempt, pool = one.pool,
      units = one.units, node = '0000000000000000', deadline = 0 }
    put_user(one.user, with)
    tell('confirmed', one.pool, one.units, one.user, one.claim)
    return 'late'
  end
  local record = with[at]
  local kind, more = step(record, one, now)
  if not kind then return more end
  if kind == 'gone' then
    table.remove(with, at)
    if one.verdict == 'V' and not is_voided[one.claim] then
      -- Looked at before anything is written, as all scripts do.
      redis.call('HEXISTS', KEYS[9], '')
      voids[#voids + 1], is_voided[one.claim] = one.claim, true
    end
    -- The shop's number says when the units of a cancelled order are back, and a reading under way may
    -- have counted them as sold or not.
    local pool = pool_of(record.pool)
    if one.verdict == 'V' and record.kind == 'C' and pool and pool.source ~= '' then
      pool.not_before, pool.stock = now, math.max(0, pool.stock - record.units)
    end
  else
    record.kind, record.deadline = kind, more
  end
  put_user(one.user, with)
  tell(TOLD[one.verdict], record.pool, record.units, one.user, one.claim)
  return 'applied'
end

-- Nearly all outcomes: C or F of the user's only record, which is still held. False: it is not that.
local function is_plain(user, claim, attempt, name, units, verdict)
  if verdict ~= 'C' and verdict ~= 'F' then return false end
  local pool = pool_of(name)
  if records[user] or not pool then return false end
  local text = text_of(user)
  local start = 'A|' .. claim .. '|' .. attempt .. '|' .. name .. '|' .. units .. '|'
  if string.sub(text, 1, #start) ~= start then return false end
  if not string.find(text, '^%x+|%d+$', #start + 1) then return false end
  units = units_of(units)
  pool.held = math.max(0, pool.held - units)
  if verdict == 'C' then
    pool.confirmed = pool.confirmed + units
    put_only(user, claim, 'C' .. string.sub(text, 2), '')
  else
    put_only(user, claim, '', '')
  end
  tell(TOLD[verdict], name, units, user, claim)
  return true
end

local function resolve()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local answers = {}
  for i = 1, #ARGV, 7 do
    local user, claim, attempt, name = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    local units, verdict, hold = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]
    if is_plain(user, claim, attempt, name, units, verdict) then
      answers[#answers + 1] = 'applied'
    else
      answers[#answers + 1] = resolve_one(now, {
        user = user, claim = claim, attempt = attempt, pool = name,
        units = number(units, 'units'), verdict = verdict,
        hold_until = hold ~= '' and number(hold, 'hold_until') or nil,
      })
    end
  end
  return finish(now, answers)
end
