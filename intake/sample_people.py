"""Invented customers from many countries and scripts, and public test card numbers, for sample orders.

Why here: a rehearsal must meet the names, addresses and cards that a real shop meets.
Must not: hold a real person or a card that can be charged; every number is published for testing.
"""

# ruff: noqa: E501, RUF001  one person a line, each in their own script

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A customer: ``address`` is lines separated by ``|``, city, region, postcode."""

    name: str
    email: str
    lines: str
    city: str
    region: str
    postcode: str
    country: str
    currency: str


PEOPLE = (
    Person("Zoë Müller", "zoe.mueller@example.com", "Hauptstraße 5|c/o Schäfer", "Köln", "", "50667", "DE", "EUR"),
    Person("Seán Ó Dálaigh", "sean.odalaigh@example.ie", "3 Sráid na Trá", "Gaillimh", "Co. Galway", "H91 E2K3", "IE", "EUR"),
    Person("山田 花子", "hanako.yamada@example.jp", "神南一丁目2-3|コーポ渋谷 405", "渋谷区", "東京都", "150-0041", "JP", "JPY"),
    Person("佐藤 健", "takeru@例え.jp", "中区丸の内3-1-1", "名古屋市", "愛知県", "460-8508", "JP", "JPY"),
    Person("فاطمة الصباح", "fatima.alsabah@example.com.kw", "شارع الخليج العربي|قطعة 4، منزل 12", "مدينة الكويت", "", "13001", "KW", "KWD"),
    Person("Yousef Al-Mutairi", "yousef@example.org", "Block 7, Street 21, House 3", "Salmiya", "Hawalli", "22001", "KW", "KWD"),
    Person("أحمد آل خليفة", "ahmed.k@example.com", "طريق 2825، مجمع 428", "المنامة", "", "428", "BH", "BHD"),
    Person("Mariam Al Zayani", "mariam.z@example.net", "Road 1704, Building 55, Flat 21", "Manama", "", "317", "BH", "BHD"),
    Person("Siobhan Featherstonehaugh-Cholmondeley", "siobhan@example.co.uk", "The Old Rectory|Church Lane", "Ludlow", "Shropshire", "SY8 1AA", "GB", "GBP"),
    Person("Oluwaseun Adébáyò", "seun.adebayo@example.com", "14b Peckham Rye", "London", "", "SE15 4JR", "GB", "GBP"),
    Person("Mary-Jo O'Connell", "mj.oconnell@example.com", "1420 Maple Ave Apt 3B", "Portland", "OR", "97201", "US", "USD"),
    Person("José Ángel Peña Núñez", "jose.pena@example.com", "2201 S Alameda St", "Los Angeles", "CA", "90058", "US", "USD"),
    Person("Nguyễn Thị Minh Khai", "minhkhai.nguyen@example.com", "25 Phố Hàng Bạc", "Hà Nội", "Hoàn Kiếm", "100000", "VN", "USD"),
    Person("Владимир Щукин", "v.shchukin@example.com", "ул. Достоевского, д. 7, кв. 19", "Алматы", "", "050000", "KZ", "USD"),
    Person("Ελένη Παπαδοπούλου", "eleni.p@example.gr", "Οδός Αθηνάς 12", "Αθήνα", "", "105 51", "GR", "EUR"),
    Person("Łukasz Wiśniewski", "lukasz.wisniewski@example.pl", "ul. Świętokrzyska 14/3", "Kraków", "", "30-015", "PL", "EUR"),
    Person("Þórdís Jónsdóttir", "thordis@example.is", "Skólavörðustígur 8", "Reykjavík", "", "101", "IS", "EUR"),
    Person("Nuria Çelik", "nuria.celik@example.com", "İstiklal Caddesi 112/4", "İstanbul", "Beyoğlu", "34433", "TR", "EUR"),
    Person("王小明", "xiaoming.wang@example.com", "信義路五段7號", "臺北市", "信義區", "110", "TW", "USD"),
    Person("김서연", "seoyeon.kim@example.kr", "세종대로 110", "서울특별시", "중구", "04524", "KR", "USD"),
    Person("प्रिया शर्मा", "priya.sharma@example.in", "12, एम. जी. रोड", "बेंगलुरु", "कर्नाटक", "560001", "IN", "USD"),
    Person("ณัฐพล ศรีสุข", "nattapon.s@example.com", "99 ถนนสุขุมวิท", "กรุงเทพมหานคร", "วัฒนา", "10110", "TH", "USD"),
    Person("שירה כהן", "shira.cohen@example.com", "רחוב דיזנגוף 50", "תל אביב", "", "6433222", "IL", "USD"),
    Person("Anne-Sophie L'Hôpital", "as.lhopital@example.fr", "7, rue de l’Échaudé|Bât. C, 4e étage", "Paris", "", "75006", "FR", "EUR"),
    Person("Inês Conceição Gonçalves", "ines.goncalves@example.pt", "Rua das Flores, 18 2.º Esq.", "Porto", "", "4050-262", "PT", "EUR"),
    Person("Jan van 't Hoff", "jan@example.nl", "Prinsengracht 263-II", "Amsterdam", "", "1016 GV", "NL", "EUR"),
    Person("Željka Đurić", "zeljka.djuric@example.com", "Ilica 42", "Zagreb", "", "10000", "HR", "EUR"),
    Person("Kerttu Hämäläinen", "kerttu@example.fi", "Mannerheimintie 5 B 12", "Helsinki", "", "00100", "FI", "EUR"),
    Person("Σ. N.", "sn@example.cy", "Ledra 1", "Nicosia", "", "1011", "CY", "EUR"),
    Person("Keʻalohi Kamakawiwoʻole", "kealohi@example.com", "55-220 Kulanui St", "Lāʻie", "HI", "96762", "US", "USD"),
)  # fmt: skip

CARDS = (
    "4242 4242 4242 4242",
    "5555 5555 5555 4444",
    "3782 822463 10005",
    "2223 0031 2200 3222",
    "6011 1111 1111 1117",
    "3056 9309 0259 04",
    "3566-0020-2036-0505",
    "6200 0000 0000 0005",
    "6759 6498 2643 8453",
    "4111111111111111",
    "5105105105105100",
    "371449635398431",
    "2223000048400011",
    "6011000990139424",
    "36227206271667",
    "3530111333300000",
    "6205500000000000004",
    "6771 7980 2100 0008",
    "4012888888881881",
    "4000056655665556",
)
"""Numbers that the simulator approves: Visa, Mastercard (5 and 2 series), Amex, Discover, Diners, JCB, UnionPay, Maestro."""

TROUBLED_CARDS = (
    "4000 0000 0000 0002",  # do not honour
    "4000 0000 0000 0119",  # issuer not available, try later
    "4000 0000 0000 0127",  # security code wrong
    "4000 0000 0000 9995",  # insufficient funds
    "4000 0000 0000 0341",  # the first answer is lost
    "4000 0000 0000 0069",  # expired, says the issuer
)
"""Numbers that the offline side's simulator answers otherwise, by their last four digits."""
