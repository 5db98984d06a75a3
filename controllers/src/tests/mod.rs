//! Tests of the controllers: built children, statuses, and named scenarios against a mock of the API server.

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
