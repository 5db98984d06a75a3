//! Tests of the controllers: what is built, what is shown, and named scenarios before a mock of the API server.

mod admission;
mod build;
mod documented;
mod hub;
mod owned;
mod scenarios;
mod shared;
mod shown;
mod support;
mod valid;
