SET NOCOUNT ON;
INSERT INTO dbo.orders (customer, amount, note)
SELECT TOP ($(ROWS))
    CHOOSE(1 + ABS(CHECKSUM(NEWID())) % 6, N'Ada Byron', N'Ebru Şahin', N'José Núñez', N'Li Wei', N'Oğuz Çelik', N'Zoë Müller'),
    (100 + ABS(CHECKSUM(NEWID())) % 1000000) / 100.0,
    CONCAT(N'order ', NEWID(), N', call first')
FROM sys.all_columns;
