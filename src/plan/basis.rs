//! What a plan rests on.
