-- emu.lua: what became of each frame of an annotated capture, as fields of Wireshark.
--
-- emu (emu replay -w FILE.pcapng) writes a verdict as a packet comment, `emu verdict=dropped reason=.. key=value ..`.
-- This plugin makes typed fields of it, expert items, a suffix of the Info column, and links between frames.
--   tshark -X lua_script:emu.lua -r verdicts.pcapng -Y 'emu.verdict == "dropped" && emu.reserve_used > 40'
--   tshark -X lua_script:emu.lua -X lua_script1:drops -q -r verdicts.pcapng     drops by reason, class and flow
--   tshark -o emu.drops:TRUE -q -r verdicts.pcapng                              the same, of an installed plugin
-- For Lua 5.2 to 5.4; made for Wireshark 4.0.

-- An installed plugin and `-X lua_script` may load it twice: the second only passes its arguments on.
if _G.emu_plugin then
  for _, argument in ipairs({ ... }) do _G.emu_plugin.argument(argument) end
  return
end
local plugin = {}
_G.emu_plugin = plugin -- by its table: Wireshark gives each script globals of its own

if set_plugin_info then
  set_plugin_info({ version = "1.0", author = "emu", description = "Verdicts of an emulated receive path" })
end

-- BEGIN TABLE: rendered by emu/wireshark/plugin.py
local PREFIX_PATTERN = "^emu verdict=(%S+)"
local ALONE = { ["NOT PLAYED"] = "not_played" }
-- In a comment, blanks in names are `_`.
local WRITTEN = {
  rule = {
    ["tcp:_device_in_reserve"] = "tcp: device in reserve",
    ["udp:_device_in_reserve"] = "udp: device in reserve",
    ["icmp:_device_in_reserve"] = "icmp: device in reserve",
    ["core:_tagged_and_not_ARP,_IP,_IPv6_or_VLAN"] = "core: tagged and not ARP, IP, IPv6 or VLAN",
    ["sk_filter:_tagged_and_not_SOCK_MEMALLOC"] = "sk_filter: tagged and not SOCK_MEMALLOC",
    ["cap:_rx_reserve_buffers_are_out"] = "cap: rx_reserve buffers are out",
    ["no_reserve_for_receive_buffers"] = "no reserve for receive buffers",
    ["skb_marked_as_the_reserve's"] = "skb marked as the reserve's",
  },
}
local FIELDS = {
  { key = "verdict", field = "emu.verdict", kind = "text", name = "Verdict",
    about = "What became of the packet; event: what happened later to an accepted one, or to a lost one that came again." },
  { key = "reason", field = "emu.reason", kind = "text", name = "Reason",
    about = "Why it was dropped, or an event threw it away, in the kernel's own word." },
  { key = "cause", field = "emu.cause", kind = "text", name = "Cause",
    about = "RX_MISSED only: why the ring was dry." },
  { key = "point", field = "emu.point", kind = "text", name = "Point",
    about = "The kernel function in which the verdict fell." },
  { key = "rule", field = "emu.rule", kind = "text", name = "Rule",
    about = "The rule of the policy that decided." },
  { key = "class", field = "emu.class", kind = "text", name = "Class",
    about = "What kind of packet it is." },
  { key = "policy", field = "emu.policy", kind = "text", name = "Policy",
    about = "The policy that ran." },
  { key = "memalloc", field = "emu.memalloc", kind = "flag", name = "Memalloc",
    about = "1: that socket is SOCK_MEMALLOC, block I/O depends on it." },
  { key = "has_socket", field = "emu.has_socket", kind = "flag", name = "Has socket",
    about = "1: a socket was found for the packet." },
  { key = "from_reserve", field = "emu.from_reserve", kind = "flag", name = "From reserve",
    about = "1: its buffer was allocated with __GFP_MEMALLOC." },
  { key = "pfmemalloc", field = "emu.pfmemalloc", kind = "flag", name = "Pfmemalloc",
    about = "1: its skb is tagged as reserve memory (policies that tag)." },
  { key = "reserve_used", field = "emu.reserve_used", kind = "number", name = "Reserve used (skbs)",
    about = "Reserve buffers that the device had out before the decision (rx_reserve_used)." },
  { key = "reserve_used_after", field = "emu.reserve_used_after", kind = "number", name = "Reserve used after (skbs)",
    about = "The same after the decision." },
  { key = "cap", field = "emu.cap", kind = "number", name = "Cap (skbs)",
    about = "The device's cap on reserve buffers (rx_reserve)." },
  { key = "free_pages", field = "emu.free_pages", kind = "number", name = "Free pages",
    about = "Free pages of the zone at the decision." },
  { key = "floor_pages", field = "emu.floor_pages", kind = "number", name = "Floor pages",
    about = "GFP_ATOMIC gets a page of the zone only above this." },
  { key = "ring_free", field = "emu.ring_free", kind = "number", name = "Ring free (descriptors)",
    about = "Descriptors that the NIC could still fill." },
  { key = "backlog_len", field = "emu.backlog_len", kind = "number", name = "Backlog len (packets)",
    about = "Packets that waited for the CPU." },
  { key = "time_ns", field = "emu.time", kind = "moment", name = "Time",
    about = "When the frame arrived at the NIC, or the event happened; since 1970 if the capture says so." },
  { key = "waited_ns", field = "emu.waited", kind = "span", name = "Waited",
    about = "From the frame's arrival until its verdict." },
  { key = "culprit", field = "emu.culprit_id", kind = "id", name = "Culprit id",
    about = "epb_packetid of the frame that last took what this one lacked; 0: none." },
}
-- END TABLE

------------------------------------------------------------------------------------------------------------------
-- The fields.

local emu = Proto("emu", "Emulated receive path")

local NEW_FIELD = {
  text = function(row) return ProtoField.string(row.field, row.name, base.ASCII, row.about) end,
  flag = function(row) return ProtoField.bool(row.field, row.name, base.NONE, nil, nil, row.about) end,
  number = function(row) return ProtoField.int32(row.field, row.name, base.DEC, nil, nil, row.about) end,
  id = function(row) return ProtoField.uint64(row.field, row.name, base.DEC, nil, nil, row.about) end,
  moment = function(row) return ProtoField.absolute_time(row.field, row.name, base.UTC, row.about) end,
  span = function(row) return ProtoField.relative_time(row.field, row.name, row.about) end,
}

-- Fields that no comment holds: they follow from it and from other frames.
local DERIVED = {
  ProtoField.bool("emu.dropped", "Dropped", base.NONE, nil, nil, "Whether the verdict is `dropped`."),
  ProtoField.framenum("emu.culprit", "Culprit", base.NONE, frametype.NONE, 0,
    "The frame that last took what this one lacked, if it is in this file."),
  ProtoField.string("emu.socket", "Socket", base.ASCII,
    "The local end of the socket that was found: the frame's own destination; a UDP socket is its port."),
  ProtoField.framenum("emu.retransmitted_in", "Retransmitted in", base.NONE, frametype.RETRANS_NEXT, 0,
    "The next frame with the bytes of this dropped segment; known when the file is read a second time."),
  ProtoField.framenum("emu.retransmission_of", "Retransmission of", base.NONE, frametype.RETRANS_PREV, 0,
    "The dropped frame whose bytes come again in this one."),
  ProtoField.string("emu.extra", "Not understood", base.ASCII,
    "Words of the comment that this plugin does not know, or whose values it cannot read."),
}
local DROPPED, CULPRIT, SOCKET, RETRANSMITTED_IN, RETRANSMISSION_OF, EXTRA = (unpack or table.unpack)(DERIVED)

local field_of, all_fields = {}, {}
for place, row in ipairs(FIELDS) do
  field_of[row.key] = NEW_FIELD[row.kind](row)
  all_fields[place] = field_of[row.key]
end
for _, field in ipairs(DERIVED) do all_fields[#all_fields + 1] = field end
emu.fields = all_fields

-- What is said of a lost frame, by its verdict.
local LOST = {
  dropped = { says = "Dropped", mark = "DROP",
    expert = ProtoExpert.new("emu.drop", "Dropped", expert.group.SEQUENCE, expert.severity.WARN) },
  oops = { says = "Lost in an oops", mark = "OOPS",
    expert = ProtoExpert.new("emu.oops", "Lost in an oops", expert.group.SEQUENCE, expert.severity.ERROR) },
  not_played = { says = "Not played, the kernel was dead", mark = "NOT PLAYED",
    expert = ProtoExpert.new("emu.not_played", "Not played", expert.group.SEQUENCE, expert.severity.NOTE) },
}
emu.experts = { LOST.dropped.expert, LOST.oops.expert, LOST.not_played.expert }

-- What is read of other dissectors.  Each is paid for with every frame, so they are few.
local comments_of, packet_id_of = Field.new("frame.comment"), Field.new("frame.packet_id")

------------------------------------------------------------------------------------------------------------------
-- Packet ids to frame numbers.
--
-- A comment names its culprit by packet id, for the numbers of frames change when a file is cut or merged.  To read
-- the id of every frame is dear.  So, as long as each that is read has the same distance to the frame number, those
-- between are taken to have it, too; at the first that has not, all are read from there on.  Of a file that was cut
-- late, up to STRIDE frames before the cut are not found in the first pass.  An id of several frames, of merged files, names none.

local FIRST, STRIDE = 64, 32 -- ids are read of so many first frames, then of one in so many
local EXACT = 2 ^ 53 -- numbers below are exact in every Lua
local ids

-- What an id is in the table: a number takes less memory than its text.
local function id_key(id)
  local near = id:tonumber()
  return near < EXACT and near or tostring(id)
end

-- Where ids come again, another capture begins: that of which this is the first frame that was read.  The frames
-- before it that were not read may have any of the ids before its own.
local function begin_another(number, id)
  for frame = ids.first, ids.last do ids.frames[frame + ids.distance] = frame end
  for back = 1, number - ids.last - 1 do ids.frames[id - back] = false end
  ids.first, ids.last = math.huge, 0
end

local function note_id(number)
  local info = packet_id_of()
  if not info then
    ids.irregular = true
    return
  end
  local key = id_key(info.value)
  if not ids.irregular and type(key) == "number" then
    ids.distance = ids.distance or key - number
    if key - number == ids.distance then
      ids.first, ids.last = math.min(ids.first, number), math.max(ids.last, number)
      return
    end
    if key <= ids.last + ids.distance then begin_another(number, key) end
  end
  ids.irregular = true
  local known = ids.frames[key]
  if known == nil then
    ids.frames[key] = number
  elseif known ~= number then
    ids.frames[key] = false
  end
end

-- The frame with this id, if it is known and comes before `number`.
local function frame_before(number, id)
  local key = id_key(id)
  local frame = ids.frames[key]
  if ids.distance and type(key) == "number" then
    local regular = key - ids.distance
    if regular >= ids.first and regular <= ids.last then
      if frame ~= nil and frame ~= regular then return nil end
      frame = regular
    end
  end
  return frame and frame < number and frame or nil
end

------------------------------------------------------------------------------------------------------------------
-- Retransmissions: a later segment of the same flow and direction that holds all bytes of a dropped one.

local BUCKET, SPACE = 4096, 4294967296 -- sequence numbers: a segment lies in few buckets, a bucket holds few segments
local lost -- lost.flows[flow][bucket]: list of { seq, size, frame }; lost.ports[port]: a segment from it was dropped
local again -- again.after[dropped frame] = later frame, again.before[later frame] = dropped frame

-- Where an IP header may begin: raw, BSD loopback, Ethernet, Linux cooked 1, one VLAN tag, cooked 2, two VLAN tags.
local IP_STARTS = { 14, 18, 22, 16, 20, 0, 4 }
local TCP = 6
local byte, floor = string.byte, math.floor

-- A frame is read as one string, for every range of a Tvb is an object of its own.
local function word_at(octets, at)
  local high, low = byte(octets, at + 1, at + 2)
  return high * 256 + low
end

-- The flow and direction of the TCP segment in the IP packet at `start`, its first sequence number and its length; nil
-- if there is none, or none with these ports, false if it holds no bytes.
local function segment_at(octets, start, source, destination)
  if #octets < start + 40 then return nil end
  local first = byte(octets, start + 1)
  local at, last, ends = start + 40, start, ""
  if floor(first / 16) == 4 then
    if byte(octets, start + 10) ~= TCP then return nil end
    at = start + first % 16 * 4
    last, ends = start + word_at(octets, start + 2), octets:sub(start + 13, start + 20)
  elseif floor(first / 16) == 6 then
    if byte(octets, start + 7) ~= TCP then return nil end
    last, ends = at + word_at(octets, start + 4), octets:sub(start + 9, start + 40)
  else
    return nil
  end
  if #octets < at + 20 or word_at(octets, at) ~= source or word_at(octets, at + 2) ~= destination then return nil end
  local offset, flags = byte(octets, at + 13, at + 14)
  local size = last - at - floor(offset / 16) * 4 + flags % 2 + floor(flags / 2) % 2
  if size <= 0 then return false end
  return ends .. octets:sub(at + 1, at + 4), word_at(octets, at + 4) * 65536 + word_at(octets, at + 6), size
end

-- The same of what most frames are: Ethernet without a tag, IPv4 without options.
local function common_segment(octets, source)
  local type_high, type_low, version, _, high, low, _, _, _, _, _, protocol = byte(octets, 13, 24)
  if version ~= 0x45 or protocol ~= TCP or type_high ~= 8 or type_low ~= 0 then return nil end
  local port1, port2, _, _, seq1, seq2, seq3, seq4, _, _, _, _, offset, flags = byte(octets, 35, 48)
  if not flags or port1 * 256 + port2 ~= source then return nil end
  local size = high * 256 + low - 20 - floor(offset / 16) * 4 + flags % 2 + floor(flags / 2) % 2
  if size <= 0 then return false end
  return octets:sub(27, 38), ((seq1 * 256 + seq2) * 256 + seq3) * 256 + seq4, size
end

local function segment(tvb, pinfo, source)
  local octets = tvb:raw()
  local flow, seq, size = common_segment(octets, source)
  if flow ~= nil then return flow, seq, size end
  local destination = pinfo.dst_port
  for place = 1, #IP_STARTS do
    flow, seq, size = segment_at(octets, IP_STARTS[place], source, destination)
    if flow ~= nil then return flow, seq, size end
  end
end

-- The newest dropped segment that lies in this one; all that do are no longer sought.
local function take_covered(flow, seq, size, number)
  local buckets, newest = lost.flows[flow], nil
  if not buckets then return nil end
  for step = 0, math.floor((seq % BUCKET + size - 1) / BUCKET) do
    local bucket = buckets[(math.floor(seq / BUCKET) + step) % (SPACE / BUCKET)] or {}
    for place = #bucket, 1, -1 do
      local one = bucket[place]
      if (one.seq - seq) % SPACE + one.size <= size then
        again.after[one.frame] = number
        newest = math.max(newest or 0, one.frame)
        table.remove(bucket, place)
      end
    end
  end
  return newest
end

local function remember_lost(flow, seq, size, number)
  local buckets = lost.flows[flow] or {}
  lost.flows[flow] = buckets
  local at = math.floor(seq / BUCKET)
  buckets[at] = buckets[at] or {}
  table.insert(buckets[at], { seq = seq, size = size, frame = number })
end

-- A frame is seen for the first time: does it come again, may it come again?
local function learn(tvb, pinfo, source, is_dropped)
  local flow, seq, size = segment(tvb, pinfo, source)
  if not flow then return end
  local number = pinfo.number
  local newest = take_covered(flow, seq, size, number)
  if newest then again.before[number], again.any = newest, true end
  if is_dropped then
    remember_lost(flow, seq, size, number)
    lost.ports[source], lost.any = true, true
  end
end

-- The number of a frame that is linked to another, else nothing.
local function follow(tvb, pinfo, is_dropped)
  local source = pinfo.src_port
  if not is_dropped and not lost.ports[source] then return nil end
  if not pinfo.visited then learn(tvb, pinfo, source, is_dropped) end
  local number = again.any and pinfo.number
  return (again.before[number] or again.after[number]) and number
end

------------------------------------------------------------------------------------------------------------------
-- The comment.

-- Of a frame's comments the first that is ours, and the verdict in it; a short one that stands alone has a verdict, but
-- no words.
local function find_story(first, ...)
  if not first then return nil end -- most frames
  local alone
  for place = 0, select("#", ...) do
    local text = (place == 0 and first or select(place, ...)).value
    if type(text) == "string" then
      local verdict = text:match(PREFIX_PATTERN)
      if verdict then return text, verdict end
      alone = alone or ALONE[text]
    end
  end
  if alone then return "", alone end
end

local function read_time(text)
  local sign, digits = text:match("^(%-?)(%d+)$")
  if not digits or #digits > 19 then return nil end
  local seconds, nanoseconds = tonumber(digits:sub(1, -10)) or 0, tonumber(digits:sub(-9))
  if sign == "-" then return NSTime.new(-seconds, -nanoseconds) end
  return NSTime.new(seconds, nanoseconds)
end

-- The value of a word, or nil if it is none.
local READ = {
  text = function(text, key)
    return WRITTEN[key] and WRITTEN[key][text] or text
  end,
  flag = function(text)
    if text == "0" or text == "1" then return text == "1" end
  end,
  number = function(text)
    local value = text:match("^%-?%d+$") and tonumber(text)
    if value and value >= -2147483648 and value <= 2147483647 then return value end
  end,
  id = function(text)
    -- Older files have an id from 2^63 on as a negative number.
    local sign, digits = text:match("^(%-?)0*(%d+)$")
    local limit = sign == "-" and "9223372036854775808" or "18446744073709551615"
    if not digits or #digits > #limit or #digits == #limit and digits > limit then return nil end
    return sign == "-" and UInt64.max() - UInt64.new(digits) + UInt64.new(1) or UInt64.new(digits)
  end,
  moment = read_time,
  span = read_time,
}

-- The words of a comment by their keys, and those that are not understood.
local function words_of(story)
  local words, rest = {}, {}
  for word in story:sub(5):gmatch("%S+") do
    local key, value = word:match("^([%w_]+)=(.+)$")
    if key and field_of[key] and not words[key] then
      words[key] = value
    else
      rest[#rest + 1] = word
    end
  end
  return words, rest
end

-- The same of one key alone, where not all are wanted.
local ONE_WORD = { __index = function(words, key) return words.story:match("%s" .. key .. "=(%S+)") end }

local function add_words(item, words, rest, tree, all)
  for _, row in ipairs(FIELDS) do
    local field = field_of[row.key]
    local text = (all or tree:referenced(field)) and words[row.key]
    if text then
      local value = READ[row.kind](text, row.key)
      if value ~= nil then
        item:add(field, value)
      else
        rest[#rest + 1] = row.key .. "=" .. text
      end
    end
  end
  if #rest > 0 then item:add(EXTRA, table.concat(rest, " ")) end
end

-- An end of a flow as emu's logs write it.
local function with_port(address, port)
  local text = tostring(address)
  return (text:find(":", 1, true) and "[" .. text .. "]" or text) .. ":" .. port
end

local function socket_of(class, pinfo)
  if class == "tcp" then return "tcp " .. with_port(pinfo.dst, pinfo.dst_port) end
  if class == "udp" then return "udp :" .. pinfo.dst_port end
end

local function flow_of(class, pinfo)
  if class == "tcp" or class == "udp" then
    return class .. " " .. with_port(pinfo.src, pinfo.src_port) .. " > " .. with_port(pinfo.dst, pinfo.dst_port)
  end
  return class .. " " .. tostring(pinfo.src) .. " > " .. tostring(pinfo.dst)
end

local function add_derived(item, words, verdict, pinfo, tree)
  item:add(DROPPED, verdict == "dropped"):set_generated()
  if tree:referenced(SOCKET) and words.has_socket == "1" then
    local socket = socket_of(words.class, pinfo)
    if socket then item:add(SOCKET, socket):set_generated() end
  end
  if not tree:referenced(CULPRIT) then return end
  local id = words.culprit and words.culprit ~= "0" and READ.id(words.culprit)
  if id then note_id(pinfo.number) end
  local culprit = id and frame_before(pinfo.number, id)
  if culprit then item:add(CULPRIT, culprit):set_generated() end
end

local function add_links(item, number)
  local after, before = again.after[number], again.before[number]
  if after then item:add(RETRANSMITTED_IN, after):set_generated() end
  if before then item:add(RETRANSMISSION_OF, before):set_generated() end
end

------------------------------------------------------------------------------------------------------------------
-- The dissector.

local last_drop -- the dropped frame that was dissected last, for the table of drops

-- What a lost frame says to everybody, whether its fields are wanted or not.
local function mark_lost(item, story, verdict, pinfo)
  local kind, reason = LOST[verdict], story:match(" reason=(%S+)")
  item:add_proto_expert_info(kind.expert, kind.says .. (reason and ": " .. reason or ""))
  pinfo.cols.info:append(" [" .. kind.mark .. (reason and " " .. reason or "") .. "]")
  if verdict == "dropped" and plugin.counts then
    local class = story:match(" class=(%S+)") or "?"
    last_drop = { number = pinfo.number, reason = reason or "?", class = class, flow = flow_of(class, pinfo) }
  end
end

local myself -- as trees know it

local function add_verdict(item, story, verdict, pinfo, tree)
  if LOST[verdict] then mark_lost(item, story, verdict, pinfo) end
  if not tree:referenced(myself) then return end
  item:append_text(": " .. verdict)
  local all = tree:referenced(EXTRA) -- which words cannot be read shows only when all are
  local words, rest = setmetatable({ verdict = verdict, story = story }, ONE_WORD), {}
  if all and story ~= "" then words, rest = words_of(story) end
  add_words(item, words, rest, tree, all)
  add_derived(item, words, verdict, pinfo, tree)
end

local since_id = 0 -- frames since one whose id was read

-- What is done for every frame is dear: each value that is asked of Wireshark is a call, and an object to collect.
function emu.dissector(tvb, pinfo, tree)
  since_id = since_id + 1
  if since_id >= STRIDE or ids.irregular then
    note_id(pinfo.number)
    ids.read = ids.read + 1
    since_id = ids.read < FIRST and STRIDE or 0
  end
  local story, verdict = find_story(comments_of())
  local is_dropped = verdict == "dropped" and story:find(" class=tcp ", 1, true) ~= nil
  local linked = (is_dropped or lost.any) and follow(tvb, pinfo, is_dropped)
  if not verdict and not linked then return end
  local item = tree:add(emu)
  if verdict then add_verdict(item, story, verdict, pinfo, tree) end
  if linked then add_links(item, linked) end
end

local function forget()
  ids = { irregular = false, distance = nil, first = math.huge, last = 0, frames = {}, read = 0 }
  since_id = STRIDE
  lost = { flows = {}, ports = {}, any = false }
  again = { after = {}, before = {}, any = false }
  last_drop = nil
end

forget()
emu.init = forget -- a new file, or the same once more from the start
register_postdissector(emu)
myself = Dissector.get("emu")

------------------------------------------------------------------------------------------------------------------
-- The table of drops: by reason, by class, by flow.

local GROUPS, MOST = { "reason", "class", "flow" }, 50 -- lines of a group

local function new_counts()
  return { total = 0, reason = {}, class = {}, flow = {} }
end

local function count_drop(counts, number)
  if not last_drop or last_drop.number ~= number then return end
  counts.total = counts.total + 1
  for _, group in ipairs(GROUPS) do
    local name = last_drop[group]
    counts[group][name] = (counts[group][name] or 0) + 1
  end
end

local function add_group(lines, group, counts)
  local names = {}
  for name in pairs(counts) do names[#names + 1] = name end
  table.sort(names, function(a, b) return counts[a] > counts[b] or counts[a] == counts[b] and a < b end)
  lines[#lines + 1] = "by " .. group .. ":"
  local others = 0
  for place, name in ipairs(names) do
    if place <= MOST then
      lines[#lines + 1] = string.format("%10d  %s", counts[name], name)
    else
      others = others + counts[name]
    end
  end
  if others > 0 then lines[#lines + 1] = string.format("%10d  in %d others", others, #names - MOST) end
end

local function counts_text(counts)
  local lines = { "emu: " .. counts.total .. " frames dropped" }
  for _, group in ipairs(GROUPS) do add_group(lines, group, counts[group]) end
  return table.concat(lines, "\n")
end

-- A tap that counts; `show` gets the text.
local function listen(show)
  local tap, counts = Listener.new("frame"), new_counts()
  plugin.counts = true
  function tap.packet(pinfo) count_drop(counts, pinfo.number) end
  function tap.reset() counts = new_counts() end
  function tap.draw() show(counts_text(counts)) end
  return tap
end

function plugin.argument(argument)
  if argument == "drops" and not plugin.prints and not gui_enabled() then
    plugin.prints = true
    listen(print)
  end
end

emu.prefs.drops = Pref.bool("Print a table of drops", false,
  "When tshark has read a file, it prints its drops by reason, class and flow.")

function emu.prefs_changed()
  if emu.prefs.drops then plugin.argument("drops") end
end

for _, argument in ipairs({ ... }) do plugin.argument(argument) end

local function open_window()
  local window = TextWindow.new("emu: drops by reason, class and flow")
  local tap = listen(function(text) window:set(text) end)
  window:set_atclose(function() tap:remove() end)
  retap_packets()
end

if gui_enabled() then register_menu("emu/Drops by reason, class and flow", open_window, MENU_STAT_UNSORTED) end
