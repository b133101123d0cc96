"""
The lines that all tokenizers are compared on, and the text that they are trained on: made from our own word lists, by a seed.

In      a seed and a number of lines
Out     a list of lines: any Unicode text without surrogates, line breaks and control characters included
Limits  only characters of Unicode 12 and before: what a newer character is depends on the Unicode tables of each program
"""
import random

WORDS = {
    "en": "the of and to in that was he with for his not king which she water morning tokenizer don't it's we'll they've I'm WE'LL IT'S",
    "de": "der die und nicht Straße größer über für Mädchen Äpfel schließen Übung heißt zwölf",
    "fr": "le être déjà garçon où l'été naïve cœur français aujourd'hui œuvre élève forêt",
    "es": "el niño mañana ¿qué ¡hola corazón pingüino también está español árbol",
    "pl": "że źródło żółty łódź są ćma gęś następny dzień świat",
    "tr": "İstanbul ışık kadın güzel çocuk ağaç IĞDIR şeker öğretmen değil",
    "vi": "tiếng Việt người được không những đường một hai ngày trời",
    "cs": "příliš žluťoučký kůň úpěl ďábelské ódy řeka město",
    "el": "ὁ λόγος ΟΔΥΣΣΕΥΣ καλημέρα κόσμε θάλασσα ΣΟΦΟΣ Ελλάδα άνθρωπος και",
    "ru": "привет мир вода человек день ночь ёлка подъезд ещё любовь Москва что",
    "uk": "їжак ґанок сім'я вітер Київ день",
    "bg": "щастие вода ъгъл човек",
    "hy": "բարև աշխարհ ջուր օր",
    "ka": "გამარჯობა მსოფლიო წყალი დღე",
    "he": "שלום עולם מים יום אֱלֹהִים בְּרֵאשִׁית",
    "ar": "مرحبا بالعالم ماء يوم السَّلَامُ كتاب العربية قال",
    "fa": "سلام دنیا می‌خواهم کتاب‌ها روز",
    "ur": "پانی دن کتاب ہے۔ میں",
    "hi": "नमस्ते दुनिया पानी दिन क्षत्रिय हिन्दी में है। और",
    "bn": "নমস্কার বিশ্ব জল দিন",
    "ta": "வணக்கம் உலகம் தண்ணீர் நாள்",
    "te": "నమస్కారం ప్రపంచం నీరు",
    "th": "สวัสดีชาวโลก น้ำ วัน ภาษาไทย ที่",
    "lo": "ສະບາຍດີ ໂລກ ນ້ຳ",
    "my": "မင်္ဂလာပါ ကမ္ဘာ ရေ",
    "km": "សួស្តី ពិភពលោក ទឹក",
    "am": "ሰላም ዓለም ውሃ",
    "zh": "你好世界 水 天地玄黄 宇宙洪荒 今天天气很好 我们 的 中文 龍龜 𠮷野家 㐀㐁",
    "ja": "こんにちは 世界 水 カタカナ ひらがな ｶﾀｶﾅ 東京タワー が が 日本語 です",
    "ko": "안녕하세요 세계 물 하루 한국어 가나",
    "misc": "ﬁne ﬂow ½ ¼ ² ³ ⅷ Ⅷ ① ㎏ ㍿ ™ ℃ Å Å ﷺ ſ 'ſ ß ẞ ｆｕｌｌ ＷＩＤＴＨ １２３ … ‥ ～ 〜 ﹪ ꙮ ǆ ǅ",
}
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇯🇵", "1️⃣", "❤️", "👨🏿‍🚀", "☃", "🧑‍💻", "‼️", "🤷‍♀️"]
MARKS = ["\u0301", "\u0308", "\u0323", "\u0327", "\u20dd", "\u0591", "\u093c", "\u3099", "\u0340", "\u1dc4"]
SPACES = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u2028",
          "\u0085", "\u000b", "\u000c", " \t \n", "\r\r", "\u1680", "\u202f", "\n\n\n\n", " " * 17]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x1b[0m", "\x1f", "\x7f", "\x8f", "\x9f", "\u00ad", "\u200b", "\u200c", "\u200d", "\u200e",
            "\u200f", "\u202e", "\u2060", "\ufeff", "\ufffd", "\ufffe", "\ue000", "\U000f0000", "\u180e", "\u061c", "\ufff9"]
DIGITS = ["7", "42", "123", "1234567", "3.14159", "1,000,000", "2026-11-25", "0xFF", "1e-9", "٣٤٥", "१२३", "൧൨", "𝟙𝟚", "50%", "12:30", "v2.0", "+1-555"]
CODE = ["def f(x):\n    return x ** 2  # square", "for (let i = 0; i < n; ++i) { a[i] += 1; }", "<div class=\"x\">&amp;</div>", "SELECT * FROM t WHERE id='7';",
        "#include <stdio.h>\r\nint main(void){return 0;}", "$\\frac{a}{b} \\sum_{i=0}^{n} x_i$", "https://example.org/a?b=c&d=%20#e", "a@b.example", "C:\\Users\\x",
        "{\"k\": [1, 2.5, null, true]}", "!!! ??? ... --- *** ___ ~~~ ```", "(a) [b] {c} <d> «e» „f“ 「g」", "x=y!=z==w<=>v->u=>t::s", "\tif (a\t&& b)\n\t\treturn;",
        "camelCase snake_case kebab-case SCREAMING_CASE mixedUPPERlower", "'s 't 're 've 'm 'll 'd 'S 'LL 'Re can't've", "no . space , before ! marks ? it 's n't 've"]
LITERALS = ["▁", "▁▁the", "##ing", "<0x41>", "<0xE2>", "Ġthe", "Ċ", "##", "@@", "</w>", "[UNK]", "<unk>", "_", "\\u0041"]
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>", "[CLS]", "[SEP]", "[MASK]", "[INST]", "[/INST]", "<|endoftext|>", "<|im_start|>",
           "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|end|>", "<|user|>", "<|assistant|>", "<start_of_turn>", "<end_of_turn>", "<extra_id_0>",
           "<extra_id_1>", "<fim_prefix>", "<tool_call>", "</tool_call>", "<think>", ">>TITLE<<", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
           "<|start|>", "<|channel|>", "<table>", "word", "Masse"]


def sentence(r, language, count):
    words = WORDS[language].split(" ")
    picked = [r.choice(words) for _ in range(count)]
    text = ("" if language in ("zh", "ja", "th") and r.random() < 0.7 else " ").join(picked)
    if r.random() < 0.3:
        text = text[:1].upper() + text[1:]
    end = {"zh": "。", "ja": "。", "hi": "।", "ar": "؟", "ur": "۔"}.get(language, r.choice([".", "!", "?", ",", ";", ":"]))
    return text + (end if r.random() < 0.6 else "")


def anything(r):
    kind = r.random()
    if kind < 0.30:
        return sentence(r, r.choice(list(WORDS)), r.randint(1, 5))
    if kind < 0.42:
        return r.choice(SPACES)
    if kind < 0.52:
        return r.choice(EMOJI)
    if kind < 0.60:
        return r.choice("aeiouncsAEgkが한") + "".join(r.choice(MARKS) for _ in range(r.randint(1, 4)))
    if kind < 0.68:
        return r.choice(CONTROLS)
    if kind < 0.78:
        return r.choice(DIGITS)
    if kind < 0.84:
        return r.choice(LITERALS)
    if kind < 0.94:
        return r.choice(SPECIAL)
    return r.choice(CODE)


def make_lines(seed, count):
    r = random.Random(seed)
    lines = ["", " ", "  ", "\n", "a", " a", "a ", "  a  b  ", "\t", "▁", " ▁ a", "'", "é", "日", "😀"]
    for text in SPECIAL:
        lines += [text, f"a{text}b", f" {text} ", f"x  {text}\n {text}{text} y"]
    lines += CODE + EMOJI + CONTROLS + SPACES
    lines += ["a" * 130, "ab" * 60 + " x", "あ" * 120, "1" * 50, " " * 70 + "x", "\n" * 33, "!" * 65, "😀" * 30, "e" + "\u0301" * 40]
    while len(lines) < count:
        kind = r.random()
        if kind < 0.35:
            lines.append(sentence(r, r.choice(list(WORDS)), r.randint(2, 9)))
        elif kind < 0.5:
            lines.append(" ".join(sentence(r, r.choice(list(WORDS)), r.randint(1, 4)) for _ in range(3)))
        elif kind < 0.6:
            lines.append(r.choice(CODE) + r.choice(SPACES) + r.choice(CODE))
        else:
            lines.append("".join(anything(r) for _ in range(r.randint(2, 8))))
    return lines[:count]


def make_training_text(seed):
    """Plain sentences and code: what a vocabulary is made from. Some scripts are left out, so that unknown characters and bytes occur."""
    r = random.Random(seed)
    languages = [name for name in WORDS if name not in ("am", "my", "km", "lo", "te", "hy", "misc")]
    lines = []
    for _ in range(3000):
        lines.append(sentence(r, "en" if r.random() < 0.3 else r.choice(languages), r.randint(3, 9)))
    for _ in range(150):
        lines.append(r.choice(CODE))
    return lines
