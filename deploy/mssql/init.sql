-- The sample source: database shop, table dbo.orders, a login that may only read it and one that may only add to it.
-- Safe to run again. $(NAME) is a variable of sqlcmd, from its environment.
SET NOCOUNT ON;
IF DB_ID(N'shop') IS NULL
    CREATE DATABASE shop;
GO
-- Readers take no locks then, and never wait for writers.
IF (SELECT is_read_committed_snapshot_on FROM sys.databases WHERE name = N'shop') = 0
    ALTER DATABASE shop SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE;
GO
USE shop;
GO
IF OBJECT_ID(N'dbo.orders', N'U') IS NULL
BEGIN
    CREATE TABLE dbo.orders (
        id         bigint IDENTITY NOT NULL CONSTRAINT orders_pk PRIMARY KEY,
        customer   nvarchar(100)   NOT NULL,
        amount     decimal(12, 2)  NOT NULL,
        note       nvarchar(400)   NOT NULL,
        created_at datetime2(3)    NOT NULL CONSTRAINT orders_created_at DEFAULT SYSUTCDATETIME(),
        rv         rowversion      NOT NULL
    );
    -- What a poll asks for: rows after a version, in this order.
    CREATE UNIQUE INDEX orders_rv ON dbo.orders (rv, id);
    PRINT 'mssql-init: made dbo.orders';
END;
GO
IF SUSER_ID(N'shop_reader') IS NULL
    CREATE LOGIN shop_reader WITH PASSWORD = N'$(READER_PASSWORD)', DEFAULT_DATABASE = shop;
ELSE
    ALTER LOGIN shop_reader WITH PASSWORD = N'$(READER_PASSWORD)';
IF SUSER_ID(N'shop_writer') IS NULL
    CREATE LOGIN shop_writer WITH PASSWORD = N'$(WRITER_PASSWORD)', DEFAULT_DATABASE = shop;
ELSE
    ALTER LOGIN shop_writer WITH PASSWORD = N'$(WRITER_PASSWORD)';
GO
IF USER_ID(N'shop_reader') IS NULL
    CREATE USER shop_reader FOR LOGIN shop_reader;
IF USER_ID(N'shop_writer') IS NULL
    CREATE USER shop_writer FOR LOGIN shop_writer;
GRANT SELECT ON dbo.orders TO shop_reader;
GRANT INSERT ON dbo.orders TO shop_writer;
GO
PRINT 'mssql-init: done';
GO
