//! Between SQLite's values, which the journal's rows are read and written with, and PostgreSQL's.

use std::error::Error;

use rusqlite::types::{FromSql, ToSql, ToSqlOutput, ValueRef};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{self, IsNull, Type};

use super::DbError;

/// One value on its way.
#[derive(Debug)]
pub(super) struct Value(rusqlite::types::Value);

type Place<'v> = &'v (dyn types::ToSql + Sync);
type Wrong = Box<dyn Error + Sync + Send>;

impl Value {
    pub(super) fn all(params: &[&dyn ToSql]) -> Result<Vec<Self>, DbError> {
        let one = |param: &&dyn ToSql| match param.to_sql()? {
            ToSqlOutput::Borrowed(value) => Ok(Self(value.try_into().map_err(|_| DbError::NotText)?)),
            ToSqlOutput::Owned(value) => Ok(Self(value)),
            _ => Err(DbError::NotText),
        };
        params.iter().map(one).collect()
    }

    pub(super) fn place(&self) -> Place<'_> {
        self
    }

    /// As what a row's reader asks for.
    pub(super) fn read<T: FromSql>(&self) -> Result<T, DbError> {
        T::column_result(ValueRef::from(&self.0)).map_err(DbError::Value)
    }
}

impl types::ToSql for Value {
    fn to_sql(&self, column: &Type, out: &mut BytesMut) -> Result<IsNull, Wrong> {
        use rusqlite::types::Value::{Blob, Integer, Null, Text};
        match (&self.0, column) {
            (Null, _) => Ok(IsNull::Yes),
            (Integer(number), &Type::INT8) => types::ToSql::to_sql(number, column, out),
            (Integer(number), &Type::INT4) => types::ToSql::to_sql(&i32::try_from(*number)?, column, out),
            (Integer(number), &Type::BOOL) => types::ToSql::to_sql(&(*number != 0), column, out),
            (Text(text), &Type::TEXT) => types::ToSql::to_sql(text, column, out),
            (Blob(bytes), &Type::BYTEA) => types::ToSql::to_sql(bytes, column, out),
            (value, column) => Err(format!("{:?} is no {column}", value.data_type()).into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    types::to_sql_checked!();
}

impl<'r> types::FromSql<'r> for Value {
    fn from_sql(column: &Type, raw: &'r [u8]) -> Result<Self, Wrong> {
        use rusqlite::types::Value::{Blob, Integer, Text};
        Ok(Self(match *column {
            Type::INT8 => Integer(types::FromSql::from_sql(column, raw)?),
            Type::INT4 => Integer(<i32 as types::FromSql>::from_sql(column, raw)?.into()),
            Type::BOOL => Integer(<bool as types::FromSql>::from_sql(column, raw)?.into()),
            Type::BYTEA => Blob(types::FromSql::from_sql(column, raw)?),
            _ => Text(types::FromSql::from_sql(column, raw)?),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Wrong> {
        Ok(Self(rusqlite::types::Value::Null))
    }

    fn accepts(column: &Type) -> bool {
        matches!(*column, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA | Type::TEXT)
    }
}
