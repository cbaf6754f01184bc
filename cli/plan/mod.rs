//! A plan as people read it: the words of its text and of its page, and the page.

mod html;
pub mod page;
pub mod words;
