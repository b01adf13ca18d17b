//! What Snappy saves of chat, alone and in blocks, and what it costs.
//! Run with `cargo test --release --test snappy_measure -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fastrand::Rng;
use snap::raw::Encoder;
use switchboard::snappy::{check, expand};
use ulid::Ulid;

const ENGLISH: &str = "the of and to a in is you that it was for on are with as I your this be at have from or had \
    by not but what all were when we there can an which do their if will up about out many then them would so some \
    her make like him into time has look two more write go see number no way could people my than first water been \
    call who its now find long down day did get come made may part over new sound take only little work know place \
    year live me back give most very after thing our just name good sentence man think say great where help through \
    much before line right too mean old any same tell boy follow came want show also around form three small set put \
    end does another well large must big even such because turn here why ask went read need land different home us \
    move try kind hand again change off play order delivery parcel invoice refund payment charged twice account \
    password address street courier tracking number arrived broken lamp screen battery cable charger warranty return \
    label exchange size colour blue black wrong missing late yesterday today tomorrow morning evening weekend please \
    thank thanks sorry hello hi regards wait moment check status confirm cancel subscription plan monthly yearly \
    upgrade downgrade price discount voucher code expired invalid website app update crash error message login reset \
    email phone call customer service agent manager complaint problem solution replacement shipped warehouse stock \
    available unavailable delayed customs country international express standard free shipping card bank transfer \
    receipt total amount euro dollar tax company private department support technical question answer understand";

const CHINESE: &str = "的 了 我 您 你 是 在 有 不 这 那 就 也 都 要 会 可以 没有 我们 您好 请问 谢谢 抱歉 麻烦 稍等 一下 \
    订单 快递 包裹 发货 收到 没收到 退款 退货 换货 发票 付款 扣款 两次 账户 密码 地址 修改 物流 单号 查询 显示 已经 \
    签收 损坏 屏幕 电池 充电器 数据线 保修 期限 过期 优惠券 折扣 价格 贵 便宜 颜色 蓝色 黑色 尺寸 大 小 错误 缺少 \
    昨天 今天 明天 上午 下午 晚上 周末 什么时候 为什么 怎么 哪里 多少 联系 客服 经理 投诉 问题 解决 方案 重新 寄送 \
    仓库 有货 缺货 延迟 海关 国际 标准 免费 运费 银行 转账 收据 总额 人民币 税 公司 个人 部门 技术 支持 回答 明白 \
    网站 应用 更新 闪退 提示 登录 重置 邮箱 电话 号码 手机 验证码 确认 取消 会员 升级 每月 每年 自动 续费 关闭 打开 \
    希望 尽快 处理 帮忙 看看 试试 还是 不行 可能 因为 所以 但是 如果 然后 现在 刚才 之前 以后 时间 三天 一周 小时 \
    分钟 非常 满意 不满意 体验 商品 质量 描述 不符 图片 照片 上传 附件 编号 核实 信息 姓名 身份 收货 人 店铺 活动";

#[derive(Clone, Copy)]
struct Language {
    name: &'static str,
    words: &'static str,
    /// Between words; and what ends a sentence.
    between: [&'static str; 2],
}

const LANGUAGES: [Language; 2] = [
    Language { name: "English", words: ENGLISH, between: [" ", ". "] },
    Language { name: "Chinese", words: CHINESE, between: ["", "。"] },
];

/// Sentences of words, often ones come often, with an order number now and then, up to this many bytes.
fn body(rng: &mut Rng, language: Language, bytes: usize) -> String {
    let words: Vec<&str> = language.words.split_whitespace().collect();
    let mut text = String::new();
    while text.len() < bytes {
        let sentence = rng.usize(4..14);
        for word in 0..sentence {
            if word > 0 {
                text.push_str(language.between[0]);
            }
            if rng.u8(..40) == 0 {
                write!(text, "{}", rng.u32(100_000..9_999_999)).unwrap();
            } else {
                let skewed = rng.usize(..words.len()) + 1;
                text.push_str(words[rng.usize(..skewed)]);
            }
        }
        text.push_str(language.between[1]);
    }
    let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end)).unwrap();
    text.truncate(end);
    text
}

/// A message as it goes between customer and agent, of about this many bytes.
fn message(rng: &mut Rng, language: Language, bytes: usize) -> String {
    let at = 1_795_400_000_000 + rng.u64(..1_000_000_000);
    let id = |rng: &mut Rng| Ulid(u128::from(at) << 80 | rng.u128(..) >> 48);
    let mut json = format!(
        "{{\"v\":1,\"id\":\"{}\",\"conversation\":\"{}\",\"seq\":{},\"at\":{at},\"from\":{{\"role\":\"{}\",\"id\":\"{}\"}},\"type\":\"text\",\"body\":\"",
        id(rng).array_to_str(&mut [0; 26]),
        id(rng).array_to_str(&mut [0; 26]),
        rng.u32(1..200),
        if rng.bool() { "customer" } else { "agent" },
        rng.u32(10_000..9_999_999),
    );
    let left = bytes.saturating_sub(json.len() + 2);
    json += &body(rng, language, left);
    json + "\"}"
}

/// Nanoseconds a byte, the best of several rounds.
fn cost(samples: &[Vec<u8>], bytes: usize, mut act: impl FnMut(&[u8])) -> f64 {
    let mut best = f64::MAX;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        let from = Instant::now();
        for sample in samples {
            act(sample);
        }
        best = best.min(from.elapsed().as_nanos() as f64);
    }
    best / bytes as f64
}

/// One row: what is left, in percent, and the cost of a plain byte to compress, check and expand.
fn row(name: &str, plain: &[Vec<u8>]) {
    let bytes: usize = plain.iter().map(Vec::len).sum();
    let blocks: Vec<Vec<u8>> = plain.iter().map(|p| Encoder::new().compress_vec(p).unwrap()).collect();
    let left: usize = blocks.iter().map(Vec::len).sum();
    let (mut encoder, mut room) = (Encoder::new(), vec![0; 1 << 20]);
    let compress = cost(plain, bytes, |p| {
        black_box(encoder.compress(p, &mut room).unwrap());
    });
    let checked = cost(&blocks, bytes, |b| {
        black_box(check(b, usize::MAX).unwrap());
    });
    let mut out = Vec::with_capacity(1 << 20);
    let expanded = cost(&blocks, bytes, |b| {
        out.clear();
        expand(b, &mut out).unwrap();
        black_box(&out);
    });
    println!(
        "| {name} | {:.0} % | {compress:.2} | {checked:.2} | {expanded:.2} |",
        100.0 * left as f64 / bytes as f64
    );
}

#[test]
#[ignore = "measures"]
fn chat() {
    println!("| | left | compress ns/B | check ns/B | expand ns/B |\n|---|---|---|---|---|");
    for language in LANGUAGES {
        let mut rng = Rng::with_seed(7);
        for bytes in [256, 512, 1024, 2048, 4096] {
            let plain: Vec<Vec<u8>> =
                (0..400).map(|_| message(&mut rng, language, bytes).into_bytes()).collect();
            row(&format!("{}, one message, {bytes} B", language.name), &plain);
        }
        for block in [4, 16, 64, 256] {
            let mut text = String::new();
            while text.len() < 4 << 20 {
                let bytes = rng.usize(220..480);
                text += &message(&mut rng, language, bytes);
                text.push('\n');
            }
            let plain: Vec<Vec<u8>> = text.as_bytes().chunks_exact(block << 10).map(<[u8]>::to_vec).collect();
            row(&format!("{}, messages of 350 B, blocks of {block} KiB", language.name), &plain);
        }
    }
}
