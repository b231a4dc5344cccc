-- The shop's commands, read from `in` by any node. Together with the cursor they are one operation:
-- each entry counts once, whichever node is first. An entry that makes no sense is skipped with an
-- `error` in `out`.
--
-- KEYS    as in common.lua
-- ARGV    1 the cursor the node read from · 2 the new cursor · then for each entry:
--         entry, op, id, user, claim, attempt, pool, units, text
--         op is pause|resume|sold_out|end|add_stock|restock|void|outcome|bad; `claim` and `attempt`
--         are what the shop's key may mean; text: C or F for outcome,
--         the order for void, who says so for a word, the reason for bad
-- Returns applied · moved (another node was first)
-- Cost    O(pools + entries + remembered ids)

local COUNTED = { add_stock = true, restock = true, void = true, outcome = true }
local WHY = 'there is no such order, or its outcome is known already'

-- The user's record that the shop means: of these kinds, and of this key where one is given.
local function meant(e, kinds)
  local found = nil
  for _, r in ipairs(records_of(e.user)) do
    local is_key = (e.claim == '' and e.attempt == '') or r.claim == e.claim
      or r.attempt == e.attempt
    if is_key and string.find(kinds, r.kind, 1, true) then
      if found and (found.pool ~= r.pool or found.units ~= r.units) then
        return nil, 'the user has several orders: say which by its key'
      end
      found = found or r
    end
  end
  return found, WHY
end

local function resolve_meant(now, e, kinds, verdict)
  local record, why = meant(e, kinds)
  if not record then return why end
  resolve_one(now, { user = e.user, claim = record.claim, attempt = record.attempt,
    pool = record.pool, units = record.units, verdict = verdict })
  if verdict == 'V' then events[#events].text = e.text end
end

-- Applies one entry; returns why it was not, or nil.
local function take(now, e)
  if e.op == 'bad' then return e.text end
  if e.op == 'void' then return resolve_meant(now, e, 'C', 'V') end
  if e.op == 'outcome' then return resolve_meant(now, e, 'PL', e.text) end
  local result, why = control_one(now, e.op, e.pool, number(e.units, 'units'), e.id)
  if result == 'refused' then return why or 'the sale has ended' end
  if result == 'applied' and not COUNTED[e.op] then announce(e.op, '', e.text) end
end

local function inbox()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  if (fields.cursor or '0-0') ~= ARGV[1] then
    return finish(now, 'moved')
  end
  local seen, kept = {}, {}
  for id in string.gmatch(redis.call('HGET', KEYS[9], 'in') or '', '[^ ]+') do
    kept[#kept + 1], seen[id] = id, true
  end
  -- Looked at before anything is written, as all scripts do.
  for i = 3, #ARGV, 9 do
    if ARGV[i + 3] ~= '' then records_of(ARGV[i + 3]) end
  end
  for i = 3, #ARGV, 9 do
    local e = { entry = ARGV[i], op = ARGV[i + 1], id = ARGV[i + 2], user = ARGV[i + 3],
      claim = ARGV[i + 4], attempt = ARGV[i + 5], pool = ARGV[i + 6], units = ARGV[i + 7],
      text = ARGV[i + 8] }
    local is_counted = COUNTED[e.op]
    if not (is_counted and seen[e.id]) then
      local why = take(now, e)
      settle()
      if why then
        announce('error', e.pool, e.entry .. ' ' .. why)
      elseif is_counted then
        kept[#kept + 1], seen[e.id] = e.id, true
      end
    end
  end
  local from = math.max(1, #kept - 1023)
  local remembered = table.concat(kept, ' ', from)
  local reply = finish(now, 'applied')
  put('cursor', ARGV[2])
  redis.call('HSET', KEYS[9], 'in', remembered)
  return reply
end
