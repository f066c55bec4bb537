//! Reads an expression in CEL, and refuses what would take more stack, time or memory than any
//! assertion needs: the parser and the interpreter have no bounds of that kind.

use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, MapExpr, StructExpr,
};
use cel::objects::Key;
use cel::{Program, Value};

use crate::profile::section::quoted;

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 4096;

/// The deepest expression: the interpreter calls itself for every level.
const MAX_DEPTH: usize = 32;

/// How many steps an expression may take at most, with [`DATA`] entries in everything that the
/// profile sets. Three loops within each other are possible.
const MAX_WORK: u64 = 1_000_000;

/// What a list or table of the profile counts.
const DATA: u64 = 16;

/// The stack of the parser, which needs up to 30 MB for [`MAX_LENGTH`] bytes that only open brackets.
const STACK: usize = 128 << 20;

/// The function that [`in_order`] is to expressions; no expression can name it.
pub(super) const IN_ORDER: &str = "@inOrder";

/// Reads an expression. The error says what is wrong with it.
pub(super) fn compile(text: &str) -> Result<IdedExpr, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    let text = text.to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let thread = thread.spawn(move || {
        let program = parse(&text)?;
        // What is too deep is also dropped here, where there is room for it.
        work(program.expression(), MAX_DEPTH, &mut Vec::new())?;
        let mut expression = program.expression().clone();
        order(&mut expression);
        Ok(expression)
    });
    let thread = thread.map_err(|error| format!("no thread can be started to read it: {error}"))?;
    thread
        .join()
        .unwrap_or_else(|_| Err("it cannot be read".into()))
}

fn parse(text: &str) -> Result<Program, String> {
    Program::compile(text).map_err(|errors| match errors.errors.first() {
        None => "it cannot be read".into(),
        Some(error) if error.msg.contains("Recursion limit") => too_deep(),
        Some(error) => format!(
            "at {}:{}: {}",
            error.pos.0,
            error.pos.1,
            one_line(&error.msg)
        ),
    })
}

fn too_deep() -> String {
    format!("it is nested deeper than {MAX_DEPTH} levels")
}

/// The first line of a message, without what a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    quoted(line).trim_matches('`').to_owned()
}

/// Bounds the steps of an expression, and with them the size of its value. `bound` has the names
/// of the loops around it and what their values count.
fn work<'e>(
    expr: &'e IdedExpr,
    depth: usize,
    bound: &mut Vec<(&'e str, u64)>,
) -> Result<u64, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(too_deep());
    };
    let mut sum = 1_u64;
    let mut add = |expr, bound: &mut _| -> Result<(), String> {
        sum = sum.saturating_add(work(expr, depth, bound)?);
        Ok(())
    };
    match &expr.expr {
        Expr::Unspecified => return Err("a part of it is missing".into()),
        Expr::Literal(_) => {}
        Expr::Ident(name) => {
            let known = bound.iter().rev().find(|(known, _)| known == name);
            sum = known.map_or(DATA, |(_, counts)| *counts);
        }
        Expr::Select(select) => add(&select.operand, bound)?,
        Expr::Call(call) => {
            for part in call.target.as_deref().into_iter().chain(&call.args) {
                add(part, bound)?;
            }
        }
        Expr::List(list) => {
            for item in &list.elements {
                add(item, bound)?;
            }
        }
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
            for entry in entries {
                match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        add(&entry.key, bound)?;
                        add(&entry.value, bound)?;
                    }
                    EntryExpr::StructField(field) => add(&field.value, bound)?,
                }
            }
        }
        Expr::Comprehension(each) => sum = repeated(each, depth, bound)?,
    }
    if sum > MAX_WORK {
        return Err(
            "it repeats too much: its loops stand in one another or build on one another".into(),
        );
    }
    Ok(sum)
}

fn repeated<'e>(
    each: &'e ComprehensionExpr,
    depth: usize,
    bound: &mut Vec<(&'e str, u64)>,
) -> Result<u64, String> {
    let range = work(&each.iter_range, depth, bound)?;
    let outside = bound.len();
    bound.push((&each.accu_var, 1));
    let first = work(&each.accu_init, depth, bound)?;
    bound.push((&each.iter_var, range));
    if let Some(second) = &each.iter_var2 {
        bound.push((second, range));
    }
    let parts = [&each.loop_cond, &each.loop_step];
    let mut step = 0_u64;
    for part in parts {
        step = step.saturating_add(work(part, depth, bound)?);
    }
    let last = work(&each.result, depth, bound)?;
    bound.truncate(outside);
    Ok(range
        .saturating_mul(step)
        .saturating_add(first)
        .saturating_add(last))
}

/// Returns the names of a map in order, and everything else as it is. The interpreter's maps have
/// a new order in every process.
pub(super) fn in_order(range: Value) -> Value {
    let Value::Map(map) = range else {
        return range;
    };
    let mut keys: Vec<&Key> = map.map.keys().collect();
    keys.sort();
    let keys = keys.into_iter().map(Value::from);
    Value::List(Arc::new(keys.collect()))
}

/// Makes every loop that makes a list go through what it repeats over in order. The other loops say
/// whether something is so of all, any or one, for which the order does not matter.
fn order(expr: &mut IdedExpr) {
    match &mut expr.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => order(&mut select.operand),
        Expr::Call(call) => {
            let target = call.target.as_deref_mut();
            target.into_iter().chain(&mut call.args).for_each(order);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(order),
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => {
            for entry in entries {
                match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        order(&mut entry.key);
                        order(&mut entry.value);
                    }
                    EntryExpr::StructField(field) => order(&mut field.value),
                }
            }
        }
        Expr::Comprehension(each) => {
            order(&mut each.iter_range);
            order(&mut each.loop_cond);
            order(&mut each.loop_step);
            order(&mut each.result);
            if matches!(each.accu_init.expr, Expr::List(_)) {
                let range = std::mem::take(&mut each.iter_range);
                each.iter_range = IdedExpr {
                    id: range.id,
                    expr: Expr::Call(CallExpr {
                        func_name: IN_ORDER.into(),
                        target: None,
                        args: vec![range],
                    }),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        compile(text).err().unwrap_or_else(|| "read".into())
    }

    #[test]
    fn what_an_assertion_needs_is_read() {
        for text in [
            "a.all(x, x.all(y, y.all(z, !(z in [1, 2, 3]) || z.b == 'c')))",
            "a.map(x, x.name).exists(n, n == 'b')",
            "a.filter(x, x > 1).size() < 100",
            &("a in [".to_owned() + &"'name',".repeat(500) + "'last']"),
        ] {
            assert_eq!(refused(text), "read", "{text}");
        }
    }

    #[test]
    fn what_would_take_too_much_is_refused() {
        let loops = |n: usize| "a.all(x, ".repeat(n) + "true" + &")".repeat(n);
        assert_eq!(refused(&loops(3)), "read");
        let all = [
            "a".repeat(5000),
            "(".repeat(4096),
            "[".repeat(2000) + &"]".repeat(2000),
            "1".to_owned() + &"+1".repeat(2000),
            "a".to_owned() + &".b".repeat(2000),
            "a".to_owned() + &"[1]".repeat(1000),
            loops(8),
            "['a']".to_owned() + &".map(x, x + x)".repeat(20) + ".size() == 1",
            "[1]".to_owned() + &".map(x, [x, x])".repeat(20) + ".size() == 1",
            format!(
                "[{0}].all(x, [{0}].all(y, [{0}].all(z, true)))",
                "1,".repeat(400) + "1"
            ),
        ];
        let told: Vec<String> = all.iter().map(|text| refused(text)).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        it is longer than 4096 bytes
        it is nested deeper than 32 levels
        it is nested deeper than 32 levels
        it is nested deeper than 32 levels
        it is nested deeper than 32 levels
        it is nested deeper than 32 levels
        it repeats too much: its loops stand in one another or build on one another
        it repeats too much: its loops stand in one another or build on one another
        it repeats too much: its loops stand in one another or build on one another
        it repeats too much: its loops stand in one another or build on one another
        "#);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_it_panic(
            text in r#"(a|b|1|"|'|\(|\)|\[|\]|\{|\}|\.|,|\?|:|\+|-|!|&&|\|\||==| in |has\(|\.all\(|\.map\(|[ -~]|\PC){0,40}"#
        ) {
            if let Ok(expression) = compile(&text) {
                let _ = Value::resolve(&expression, &cel::Context::default());
            }
        }
    }
}
