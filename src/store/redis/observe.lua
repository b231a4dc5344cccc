-- What the shop's own numbers say, where they lead.
--
-- KEYS    as in common.lua
-- ARGV    1 the generation of the ledger's memory in which the reading began · 2 when it began ·
--         then for each pool: name, units left or nothing, units confirmed when the reading began
-- Returns for each pool: applied · late · not_followed
-- Cost    O(pools)

local STOCK_MAX = 1000000000

local function observe_one(is_current, read_at, name, left, confirmed_before)
  local pool = pool_of(name)
  if not pool or pool.source == '' then return 'not_followed' end
  if not is_current or read_at <= pool.not_before or read_at < pool.read_at then return 'late' end
  if left == '' then
    forget(pool, read_at)
    return 'applied'
  end
  left = number(left, 'left')
  pool.stock = math.min(confirmed_before + left, STOCK_MAX)
  pool.read_at = read_at
  if left > 0 then
    pool.empty_since = 0
  elseif pool.empty_since == 0 then
    pool.empty_since = read_at
  end
  return 'applied'
end

local function observe()
  local now = begin()
  if not sale then return finish(now, 'no_sale') end
  local is_current = ARGV[1] == mark()
  local read_at = math.min(number(ARGV[2], 'read_at'), now)
  local answers = {}
  for i = 3, #ARGV, 3 do
    answers[#answers + 1] = observe_one(is_current, read_at, ARGV[i], ARGV[i + 1],
      number(ARGV[i + 2], 'confirmed_before'))
  end
  return finish(now, answers)
end
