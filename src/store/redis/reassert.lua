-- What a node knows and the ledger may have forgotten.
--
-- KEYS    as in common.lua
-- ARGV    1 node · 2 whether to ask which server this is, 0|1 · 3 learn_ms · 4 the highest seq that the
--         node saw · 5 what it has reported to, or nothing · 6 whether it wants to hear which nodes
--         live, 0|1 · 7 how far it knows `in` to be read, or nothing · 8 number of earlier runs ·
--         9 of nodes that it knew to be alive · 10 of words about the sale as it knew it · then these, in this order · then for each claim: claim, user, attempt, pool,
--         units, node, A|C|F|X|P|V, deadline
--         Words about the sale: epoch, version, seq, fences, revision, applied, activity, opens_at,
--         ends_at or nothing, paused, ended, overshoot_permille, orders, units, restock, salt,
--         restock_batch, restock_debounce_ms, ids of commands,
--         then for each pool name, stock, sold_out, held_back, and where the shop says what is left, or
--         nothing
-- Returns for each claim: applied · repeated · conflict · unknown · late; then the nodes that live,
--         while the ledger learns or where they are asked for
-- Cost    O(pools + claims), and O(nodes) with the nodes

local LIVE_MS, KEPT_MS = 5000, 600000
local MADE = { A = 'admitted', C = 'confirmed', L = 'limbo', P = 'pending' }

-- Claims of which a node said F without a record; pools that go; nodes that change.
local fails, is_failing = {}, {}
local gone = {}
local node_writes = {}

-- The arguments from `from` on, `count` of them.
local function slice(from, count)
  local out = {}
  for i = from, from + count - 1 do out[#out + 1] = ARGV[i] end
  return out
end

local function known_of(words)
  if #words == 0 then return nil end
  local k = {
    epoch = number(words[1], 'epoch'), version = number(words[2], 'version'),
    seq = number(words[3], 'seq'), fences = number(words[4], 'fences'), revision = words[5],
    applied = words[6], activity = words[7], opens_at = number(words[8], 'opens_at'),
    ends_at = words[9] ~= '' and number(words[9], 'ends_at') or nil, paused = words[10] == '1',
    ended = words[11] == '1', overshoot = number(words[12], 'overshoot'),
    orders = number(words[13], 'orders'), units = number(words[14], 'units'),
    restock = words[15], salt = words[16], restock_batch = number(words[17], 'restock_batch'),
    restock_debounce_ms = number(words[18], 'restock_debounce_ms'), ids = words[19],
    pools = {}, by_name = {}, names = {},
  }
  for i = 20, #words, 5 do
    local name = words[i]
    local pool = { name = name, stock = number(words[i + 1], 'stock'), confirmed = 0, held = 0,
      limbo = 0, sold_out = words[i + 2] == '1', held_back = words[i + 3] == '1',
      back_since = 0, source = words[i + 4], read_at = 0, not_before = 0, empty_since = 0 }
    if pool.source ~= '' then forget(pool, clock) end
    k.pools[#k.pools + 1], k.by_name[name], k.names[#k.names + 1] = pool, pool, name
  end
  return k
end

-- A sale that the ledger has lost, as the node knew it: nobody has bought yet, as far as is known.
local function restore(k)
  sale = {
    epoch = k.epoch, version = k.version, revision = k.revision, applied = k.applied,
    activity = k.activity, opens_at = k.opens_at, ends_at = k.ends_at, paused = k.paused,
    ended = k.ended, sold_out = false, overshoot = k.overshoot, orders = k.orders,
    units = k.units, restock = k.restock, salt = k.salt, names = table.concat(k.names, ','),
    server = ZERO, fences = k.fences, learn_until = 0, seq = k.seq, ids = k.ids,
    restock_batch = k.restock_batch, restock_debounce_ms = k.restock_debounce_ms,
  }
  for _, pool in ipairs(k.pools) do
    pools[pool.name] = { name = pool.name, stock = pool.stock, confirmed = 0, held = 0, limbo = 0,
      sold_out = pool.sold_out, held_back = pool.held_back, back_since = 0, source = pool.source,
      read_at = 0, not_before = pool.not_before, empty_since = 0 }
    loaded[#loaded + 1] = pools[pool.name]
  end
  rises = true
end

local function is_used(pool)
  return pool.confirmed ~= 0 or pool.held ~= 0 or pool.limbo ~= 0
end

-- What the node knew is newer: all that is declared becomes that.
local function take_newer(k, is_same_epoch)
  local names = {}
  local new_pools, new_loaded = {}, {}
  for _, old in ipairs(all_pools()) do
    local new = k.by_name[old.name]
    if new then
      new.confirmed, new.held, new.limbo = old.confirmed, old.held, old.limbo
      new.said_stock, new.said_sold_out = old.said_stock, old.said_sold_out
      new.sold_out = new.sold_out or (is_same_epoch and old.sold_out)
      new.held_back = new.held_back or (is_same_epoch and old.held_back)
      new.back_since = old.back_since
    elseif is_used(old) then
      new_pools[old.name], new_loaded[#new_loaded + 1], names[#names + 1] = old, old, old.name
    else
      gone[#gone + 1] = old.name
      -- Nobody finds it any more.
      fields['stock:' .. old.name] = nil
    end
  end
  for _, new in ipairs(k.pools) do
    new_pools[new.name], new_loaded[#new_loaded + 1], names[#names + 1] = new, new, new.name
  end
  table.sort(names)
  pools, loaded, sale.names = new_pools, new_loaded, table.concat(names, ',')
  sale.activity, sale.opens_at, sale.ends_at = k.activity, k.opens_at, k.ends_at
  sale.paused, sale.overshoot, sale.orders, sale.units = k.paused, k.overshoot, k.orders, k.units
  sale.restock, sale.revision, sale.applied = k.restock, k.revision, k.applied
  sale.restock_batch, sale.restock_debounce_ms = k.restock_batch, k.restock_debounce_ms
  sale.ids = joined(sale.ids, k.ids)
  sale.epoch, sale.version = k.epoch, k.version
  rises = true
end

local function merge(k)
  local is_unused = true
  for _, pool in ipairs(all_pools()) do
    if is_used(pool) then is_unused = false end
  end
  if is_unused then sale.salt = k.salt end
  sale.ended = sale.ended or k.ended
  local is_same_epoch = k.epoch == sale.epoch
  if k.epoch > sale.epoch or (is_same_epoch and k.version > sale.version) then
    return take_newer(k, is_same_epoch)
  end
  local is_equal = is_same_epoch and k.version == sale.version
  if is_equal then
    sale.paused = sale.paused or k.paused
    sale.ids = joined(k.ids, sale.ids)
  end
  for _, pool in ipairs(all_pools()) do
    local other = k.by_name[pool.name]
    if other then
      pool.sold_out = pool.sold_out or (is_same_epoch and other.sold_out)
      pool.held_back = pool.held_back or (is_same_epoch and other.held_back)
      if is_equal and pool.source == '' then pool.stock = math.min(pool.stock, other.stock) end
    end
  end
end

local function made(now, one)
  local kind = one.verdict
  if kind == 'X' or (kind ~= 'C' and one.deadline <= now) then kind = 'L' end
  return { kind = kind, claim = one.claim, attempt = one.attempt, pool = one.pool,
    units = one.units, node = one.node, deadline = one.deadline }
end

local function has_word(word, claim)
  return redis.call('HEXISTS', KEYS[9], word .. claim) == 1
end

local function reassert_one(now, one)
  local with = copy(records_of(one.user))
  for _, r in ipairs(with) do
    if r.claim == one.claim then
      if one.verdict == 'A' then return 'repeated' end
      return resolve_one(now, { user = one.user, claim = one.claim, attempt = one.attempt,
        pool = one.pool, units = one.units, verdict = one.verdict, hold_until = one.deadline })
    end
  end
  if one.verdict == 'V' then
    if not is_voided[one.claim] then
      voids[#voids + 1], is_voided[one.claim] = one.claim, true
    end
    return 'unknown'
  end
  if one.verdict == 'F' then
    if not is_failing[one.claim] then
      fails[#fails + 1], is_failing[one.claim] = one.claim, true
    end
    return 'unknown'
  end
  if is_voided[one.claim] or has_word('void:', one.claim) then return 'repeated' end
  if not pool_of(one.pool) then return 'conflict' end
  if one.verdict ~= 'C' and (is_failing[one.claim] or has_word('failed:', one.claim)) then
    return 'repeated'
  end
  local record = made(now, one)
  with[#with + 1] = record
  put_user(one.user, with)
  tell(MADE[record.kind], one.pool, one.units, one.user, one.claim)
  return 'late'
end

-- Every node: {node, seen, reported}, in their order, the one that speaks among them.
local function all_nodes(now)
  local all = { { node = ARGV[1], seen = now, reported = ARGV[5] } }
  local stored = redis.call('HGETALL', KEYS[10])
  for i = 1, #stored, 2 do
    local seen, reported = string.match(stored[i + 1], '^(%d+)|(.*)$')
    if not seen then error('CORRUPT node ' .. stored[i]) end
    if stored[i] ~= ARGV[1] then
      all[#all + 1] = { node = stored[i], seen = number(seen, 'seen'), reported = reported }
    end
  end
  local kept, by_name = {}, {}
  for _, peer in ipairs(all) do
    if peer.seen + KEPT_MS < now then
      node_writes[#node_writes + 1] = { peer.node }
    else
      kept[#kept + 1], by_name[peer.node] = peer, peer
    end
  end
  return kept, by_name
end

local function write_later(peer)
  node_writes[#node_writes + 1] = { peer.node, int(peer.seen) .. '|' .. peer.reported }
end

-- The node has reported; returns the nodes that live, where somebody wants to know.
local function report(now, runs, peers)
  local is_learning = now < sale.learn_until
  write_later({ node = ARGV[1], seen = now, reported = ARGV[5] })
  if not is_learning and ARGV[6] ~= '1' then return {} end
  local all, by_name = all_nodes(now)
  if is_learning then
    for _, run in ipairs(runs) do
      local peer = by_name[run]
      if peer then
        if ARGV[5] ~= '' then peer.reported = ARGV[5] end
        write_later(peer)
      end
    end
    for _, node in ipairs(peers) do
      if not by_name[node] then
        local peer = { node = node, seen = now, reported = '' }
        all[#all + 1], by_name[node] = peer, peer
        write_later(peer)
      end
    end
    local began = math.max(0, sale.learn_until - number(ARGV[3], 'learn_ms'))
    local is_open, current = false, mark()
    for _, peer in ipairs(all) do
      if peer.seen + LIVE_MS >= began and peer.reported ~= current then is_open = true end
    end
    if not is_open then sale.learn_until = now end
  end
  local live = {}
  for _, peer in ipairs(all) do
    if peer.seen + LIVE_MS >= now then live[#live + 1] = peer.node end
  end
  table.sort(live)
  return live
end

-- Whether a place in a stream is behind another.
local function is_behind(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if not a_ms or not b_ms then error('CORRUPT cursor') end
  a_ms, b_ms = number(a_ms, 'cursor'), number(b_ms, 'cursor')
  return a_ms < b_ms or (a_ms == b_ms and number(a_seq, 'cursor') < number(b_seq, 'cursor'))
end

local function write_after()
  for _, claim in ipairs(fails) do redis.call('HSET', KEYS[9], 'failed:' .. claim, '1') end
  for _, name in ipairs(gone) do
    redis.call('HDEL', KEYS[1], 'stock:' .. name, 'confirmed:' .. name, 'held:' .. name,
      'limbo:' .. name, 'sold_out:' .. name, 'held_back:' .. name, 'back_since:' .. name,
      'source:' .. name, 'read_at:' .. name, 'not_before:' .. name, 'empty_since:' .. name)
  end
  for _, one in ipairs(node_writes) do
    if one[2] then
      redis.call('HSET', KEYS[10], one[1], one[2])
    else
      redis.call('HDEL', KEYS[10], one[1])
    end
  end
  if ARGV[7] ~= '' then put('cursor', ARGV[7]) end
end

local function reassert()
  local now = begin()
  -- Looked at before anything is written, as all scripts do.
  redis.call('HEXISTS', KEYS[9], '')
  redis.call('HEXISTS', KEYS[10], '')
  local at = 11
  local lists = {}
  for i = 8, 10 do
    local count = number(ARGV[i], 'a count')
    lists[#lists + 1] = slice(at, count)
    at = at + count
  end
  local known = known_of(lists[3])
  local is_restored = not sale and known ~= nil
  if not sale and not known then return finish(now, 'no_sale') end
  if is_restored then restore(known) end
  look(ARGV[2], number(ARGV[3], 'learn_ms'), number(ARGV[4], 'seq'), is_restored)
  if known then merge(known) end
  local answers = {}
  for i = at, #ARGV, 8 do
    answers[#answers + 1] = reassert_one(now, {
      claim = ARGV[i], user = ARGV[i + 1], attempt = ARGV[i + 2], pool = ARGV[i + 3],
      units = number(ARGV[i + 4], 'units'), node = ARGV[i + 5], verdict = ARGV[i + 6],
      deadline = number(ARGV[i + 7], 'deadline'),
    })
  end
  for _, node in ipairs(report(now, lists[1], lists[2])) do answers[#answers + 1] = node end
  if ARGV[7] ~= '' and is_behind(ARGV[7], fields.cursor or '0-0') then ARGV[7] = '' end
  local reply = finish(now, answers)
  write_after()
  return reply
end
